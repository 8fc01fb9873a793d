#include "engine/deadline.h"

namespace headrace::engine {
namespace {

constexpr double kWorthMore = 1.25;   // times the tokens a second, for twice the requests
constexpr double kSurelyLate = 0.5;   // of the expected time
constexpr double kPressed = 1.0 / 8;  // of the time until the deadline, spent waiting

double Seconds(const Timed& one, int32_t all_prefill, int32_t requests, const CostTable& costs, int threads) {
  return all_prefill * costs.PredictPrefillRow(threads) +
         one.decode * costs.PredictDecoding(requests, threads);
}

}  // namespace

int32_t Knee(const CostTable& costs, int threads, int32_t most) {
  for (int32_t n = 1; n < most; n *= 2)
    if (2 * costs.PredictDecoding(n, threads) < kWorthMore * costs.PredictDecoding(2 * n, threads)) return n;
  return most;
}

bool MayBeginInTime(const Timed& next, std::span<const Timed> running, double now, const CostTable& costs,
                    int threads) {
  const auto before = static_cast<int32_t>(running.size());
  int32_t prefill = 0;
  for (const Timed& one : running) prefill += one.prefill;
  const auto late = [&](const Timed& one, int32_t rows, int32_t requests) {
    return one.deadline > 0 && now + Seconds(one, rows, requests, costs, threads) > one.deadline;
  };
  if (late(next, prefill + next.prefill, before + 1)) return false;
  for (const Timed& one : running)
    if (!late(one, prefill, before) && late(one, prefill + next.prefill, before + 1)) return false;
  return true;
}

bool Hopeless(const Timed& next, double now, const CostTable& costs, int threads) {
  return next.deadline > 0 &&
         now + kSurelyLate * Seconds(next, next.prefill, 1, costs, threads) > next.deadline;
}

bool Pressed(double submitted, double deadline, double now) {
  return deadline > 0 && now - submitted > kPressed * (deadline - submitted);
}

}  // namespace headrace::engine
