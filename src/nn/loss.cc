#include "nn/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "nn/kernels.h"

namespace headrace::nn {
namespace {

template <typename T>
inline __attribute__((always_inline)) float LossRow(T* logits, int64_t count, int64_t target, float scale) {
  float peaks[kLanes];
  std::fill(peaks, peaks + kLanes, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      peaks[lane] = std::max(peaks[lane], ToFloat(logits[i + lane]));
  for (; i < count; ++i) peaks[0] = std::max(peaks[0], ToFloat(logits[i]));
  const float highest = *std::max_element(peaks, peaks + kLanes);
  float sums[kLanes] = {};
  for (i = 0; i + kLanes <= count; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += Exp(ToFloat(logits[i + lane]) - highest);
  for (; i < count; ++i) sums[i % kLanes] += Exp(ToFloat(logits[i]) - highest);
  const float log_sum = highest + std::log(SumOf(sums));
  const float at_target = ToFloat(logits[target]);
  for (int64_t j = 0; j < count; ++j) FromFloat(Exp(ToFloat(logits[j]) - log_sum) * scale, &logits[j]);
  FromFloat((Exp(at_target - log_sum) - 1.0F) * scale, &logits[target]);
  return log_sum - at_target;
}
HEADRACE_KERNEL float LossRowF32(float* logits, int64_t count, int64_t target, float scale) {
  return LossRow(logits, count, target, scale);
}
HEADRACE_KERNEL float LossRowBF16(BF16* logits, int64_t count, int64_t target, float scale) {
  return LossRow(logits, count, target, scale);
}

}  // namespace

void CrossEntropy(const Matrix& logits, std::span<const int32_t> targets, float scale,
                  std::span<float> losses) {
  HEADRACE_CHECK(static_cast<int64_t>(targets.size()) == logits.rows && losses.size() == targets.size());
  for (const int32_t target : targets) HEADRACE_CHECK(target >= 0 && target < logits.columns);
#pragma omp parallel for
  for (int64_t row = 0; row < logits.rows; ++row) {
    const auto at = static_cast<size_t>(row);
    losses[at] = logits.type == DType::kF32
                     ? LossRowF32(logits.Row<float>(row), logits.columns, targets[at], scale)
                     : LossRowBF16(logits.Row<BF16>(row), logits.columns, targets[at], scale);
  }
}

void HeadLoss(Matmul* matmul, const Matrix& x, const Packed& forward, const Packed& backward,
              std::span<const int32_t> targets, float scale, const Matrix& dx, std::span<float> losses) {
  HEADRACE_CHECK(static_cast<int64_t>(targets.size()) == x.rows && losses.size() == targets.size());
  HEADRACE_CHECK(dx.rows == x.rows && dx.columns == x.columns && dx.type == x.type);
  const int64_t vocabulary = forward.columns();
  const int64_t most = std::min(x.rows, kLossRows);
  std::vector<char> memory(static_cast<size_t>(most * vocabulary) * SizeOf(x.type));
  for (int64_t row = 0; row < x.rows; row += kLossRows) {
    const int64_t rows = std::min(kLossRows, x.rows - row);
    const Matrix logits(memory.data(), x.type, rows, vocabulary, vocabulary);
    matmul->Multiply(x.Part(row, 0, rows, x.columns), forward, logits, Into::kReplace);
    const auto from = static_cast<size_t>(row);
    const auto count = static_cast<size_t>(rows);
    CrossEntropy(logits, targets.subspan(from, count), scale, losses.subspan(from, count));
    matmul->Multiply(logits, backward, dx.Part(row, 0, rows, x.columns), Into::kReplace);
  }
}

}  // namespace headrace::nn
