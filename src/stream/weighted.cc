#include "stream/weighted.h"

#include <algorithm>
#include <cmath>

#include "stream/permute.h"

namespace headrace::stream {
namespace {
constexpr uint64_t kShift = 3;
constexpr uint64_t kPlaces = 4;
}  // namespace

WeightedOrder::WeightedOrder(const std::vector<double>* cumulative, int64_t draws, uint64_t seed,
                             int64_t epoch)
    : cumulative_(cumulative), draws_(draws), key_(Derive(seed, static_cast<uint64_t>(epoch))) {
  shift_ = Draws(Derive(key_, kShift)).Uniform();
}

int64_t WeightedOrder::Ordinal(int64_t position) const {
  const int64_t stratum = Permutation(draws_, Derive(key_, kPlaces))(position);
  const double at =
      (static_cast<double>(stratum) + shift_) / static_cast<double>(draws_) * cumulative_->back();
  const auto it = std::upper_bound(cumulative_->begin(), cumulative_->end(), at);
  if (it != cumulative_->end()) return it - cumulative_->begin();
  // Rounding at the very end: the last row with a weight.
  return std::lower_bound(cumulative_->begin(), cumulative_->end(), cumulative_->back()) -
         cumulative_->begin();
}

Result<std::vector<double>> CumulativeWeights(const std::vector<double>& weights) {
  std::vector<double> cumulative;
  cumulative.reserve(weights.size());
  double sum = 0;
  for (const double w : weights) {
    if (!(w >= 0) || std::isinf(w)) {
      return Status::Invalid("the weight of selected row " + std::to_string(cumulative.size()) + " is " +
                             std::to_string(w) + "; weights are numbers of at least 0");
    }
    sum += w;
    cumulative.push_back(sum);
  }
  if (sum <= 0) return Status::Invalid("no selected row has a weight above 0");
  return cumulative;
}

}  // namespace headrace::stream
