// Rows drawn with replacement, with chances in proportion to a weight each.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"

namespace headrace::stream {

// An epoch of `draws` draws, systematic (Madow, 1949): draw s falls at (s + u) / draws of the summed weights,
// u one number of the epoch, and the draws are permuted. A row of weight w comes floor or ceiling of draws ·
// w / sum times; its place is random.
class WeightedOrder {
 public:
  // `cumulative`: of the weights in ordinal order; the last is the sum, above 0.
  WeightedOrder(const std::vector<double>* cumulative, int64_t draws, uint64_t seed, int64_t epoch);
  int64_t Ordinal(int64_t position) const;

 private:
  const std::vector<double>* cumulative_;
  int64_t draws_;
  uint64_t key_;
  double shift_;
};

// Invalid if a weight is negative or not finite (its row is named by its ordinal), or if none is above 0.
Result<std::vector<double>> CumulativeWeights(const std::vector<double>& weights);

}  // namespace headrace::stream
