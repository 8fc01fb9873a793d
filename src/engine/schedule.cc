#include "engine/schedule.h"

#include <algorithm>
#include <set>

namespace headrace::engine {
namespace {

constexpr int32_t kGoodChunk = 256;  // rows
constexpr double kShortGap = 0.1;    // seconds: nobody sees it
constexpr double kPlanned = 0.72;    // of --max-itl
constexpr double kPatience = 8;      // seconds without a row, after which a prompt goes first whosever it is
constexpr int32_t kRoom = 16;        // rows of prefill that are worth a place in a decoders' step

// Seconds since the crowd's last step began, up to which a guest's prompt goes on: that step, and as much as
// a good chunk of the prompt takes. Where --max-itl is given, its chunks are as long as that allows, one a
// turn.
double GuestsTurn(std::span<const Work> work, int adapter, const ScheduleLimits& limits,
                  const CostTable& costs, int threads) {
  if (limits.max_gap > 0) return 0;
  StepShape chunk;
  chunk.rows = kGoodChunk;
  return costs.Predict(DecodingStep(work, adapter), threads) + costs.Predict(chunk, threads);
}

}  // namespace

int AdapterTurn::Next(std::span<const Work> work) {
  std::set<int> waiting;
  for (const Work& w : work) waiting.insert(w.adapter);
  if (waiting.empty()) return current_;
  if (waiting.count(current_) != 0 && (used_ < quantum_ || waiting.size() == 1)) {
    ++used_;
    return current_;
  }
  const auto next = waiting.upper_bound(current_);
  current_ = next == waiting.end() ? *waiting.begin() : *next;
  used_ = 1;
  return current_;
}

StepShape DecodingStep(std::span<const Work> work, int adapter) {
  StepShape step;
  for (const Work& w : work) {
    if (w.adapter != adapter) continue;
    step.rows += w.decode_rows;
    step.outputs += w.decode_rows;
    step.attended += static_cast<int64_t>(w.decode_rows) * w.position;
  }
  return step;
}

int32_t WatchedRows(const ScheduleLimits& limits, const StepShape& step, const StepShape& other_turn,
                    const Work& work, bool first, int32_t most, const CostTable& costs, int threads) {
  const bool given = limits.max_gap > 0;
  double budget = given ? kPlanned * limits.max_gap : kShortGap;
  if (other_turn.rows > 0) budget -= costs.Predict(other_turn, threads);
  const int32_t fits =
      costs.RowsWithin(step, work.position, budget, first ? limits.least_chunk : 0, most, threads);
  return given ? fits : std::min(most, std::max(fits, kGoodChunk - step.rows));
}

std::vector<Share> Schedule(std::span<const Work> work, int adapter, const ScheduleLimits& limits,
                            const CostTable& costs, int threads) {
  std::vector<Share> plan;
  StepShape shape;
  std::vector<const Work*> decoding, prefilling;
  for (const Work& w : work) {
    if (w.adapter != adapter) continue;
    if (w.decode_rows > 0) decoding.push_back(&w);
    if (w.decode_rows == 0 && w.prefill_left > 0) prefilling.push_back(&w);
  }
  const auto longest_first = [](const Work* a, const Work* b) {
    return a->waited != b->waited ? a->waited > b->waited : a->slot < b->slot;
  };
  std::sort(decoding.begin(), decoding.end(), longest_first);
  std::sort(prefilling.begin(), prefilling.end(), [&](const Work* a, const Work* b) {
    const bool late_a = a->waited > kPatience, late_b = b->waited > kPatience;
    if (late_a != late_b) return late_a;
    if (!late_a && a->share != b->share) return a->share < b->share;
    return longest_first(a, b);
  });
  if (limits.grid > 0) {  // one sequence a step, whoever has waited longest
    std::vector<const Work*> all = decoding;
    all.insert(all.end(), prefilling.begin(), prefilling.end());
    if (all.empty()) return plan;
    const Work* next = *std::min_element(all.begin(), all.end(), longest_first);
    if (next->decode_rows > 0) return {{next->slot, 1}};
    const int32_t to_grid = limits.grid - next->position % limits.grid;
    return {{next->slot, std::min({next->prefill_left, to_grid, limits.max_rows})}};
  }
  // Turns of their own: decoders when they have waited longer than whoever prefilled last.
  StepShape other_turn;
  bool apart = limits.apart, guests_turn = false;
  int32_t most_rows = limits.max_rows;
  const bool crowded = limits.tile > 0 && static_cast<int32_t>(decoding.size() + prefilling.size()) >= kCrowd;
  // A long prompt is sooner done in large chunks of its own.
  const bool long_prompt = !prefilling.empty() && prefilling.front()->prefill_left > kGoodChunk;
  if (crowded && decoding.empty() && !long_prompt) most_rows = std::min(most_rows, limits.tile - 1);
  if (crowded && !decoding.empty()) {
    apart = static_cast<int32_t>(decoding.size()) + kRoom >= limits.tile || long_prompt;
    if (!apart) most_rows = std::min(most_rows, limits.tile * 3 / 4);
    const int32_t theirs =
        (*std::max_element(decoding.begin(), decoding.end(), [](const Work* a, const Work* b) {
          return a->share < b->share;
        }))->share;
    const auto guest = std::find_if(prefilling.begin(), prefilling.end(),
                                    [&](const Work* w) { return w->share * kGuestShare <= theirs; });
    if (guest != prefilling.end()) {
      if ((*guest)->fresh || (*guest)->waited >= decoding.front()->waited ||
          decoding.front()->waited < GuestsTurn(work, adapter, limits, costs, threads)) {
        prefilling = {*guest};
        apart = guests_turn = true;
      } else {
        prefilling.erase(guest);
        apart = false;
      }
    }
  }
  if (apart && !decoding.empty() && !prefilling.empty()) {
    if (!guests_turn && decoding.front()->waited > prefilling.back()->waited && !prefilling.back()->fresh) {
      prefilling.clear();
    } else {
      other_turn = DecodingStep(work, adapter);
    }
  }
  const bool watched =
      std::any_of(decoding.begin(), decoding.end(), [](const Work* w) { return w->interactive; });
  if (other_turn.rows > 0) {
    decoding.clear();
    most_rows = guests_turn ? std::min(limits.max_rows, limits.tile - 1) : limits.max_rows;
  }
  // Every decoder gets one row before any gets its drafts.
  for (const Work* w : decoding) {
    if (shape.rows >= most_rows) break;
    plan.push_back({w->slot, 1});
    ++shape.rows;
    ++shape.outputs;
    shape.attended += w->position;
  }
  for (size_t i = 0; i < plan.size(); ++i) {
    const int32_t more = std::min(decoding[i]->decode_rows - 1, most_rows - shape.rows);
    if (more <= 0) continue;
    plan[i].rows += more;
    shape.rows += more;
    shape.outputs += more;
    shape.attended += static_cast<int64_t>(more) * decoding[i]->position;
  }
  shape.beside = shape.rows;
  for (const Work* w : prefilling) {
    int32_t rows = std::min(w->prefill_left, most_rows - shape.rows);
    if (rows <= 0) break;
    if (watched) {
      // The first in line always moves on; those behind it only if there is time left.
      const bool first = plan.size() == decoding.size();
      rows = WatchedRows(limits, shape, other_turn, *w, first, rows, costs, threads);
      if (rows <= 0) break;
    }
    if (const int32_t total = shape.rows + rows;
        limits.tile > 0 && rows < w->prefill_left && total > limits.tile)
      rows = std::max(total / limits.tile * limits.tile - shape.rows, 1);
    plan.push_back({w->slot, rows});
    shape.rows += rows;
    shape.outputs += rows == w->prefill_left ? 1 : 0;
    shape.attended += static_cast<int64_t>(rows) * w->position + static_cast<int64_t>(rows) * rows / 2;
  }
  return plan;
}

}  // namespace headrace::engine
