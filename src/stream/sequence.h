// The whole order of a stream: (epoch, position) -> (source, ordinal), and the key of the random numbers
// there.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "stream/mixture.h"
#include "stream/order.h"
#include "stream/steps.h"
#include "stream/weighted.h"

namespace headrace::stream {

struct SequencePart {
  Layout layout;
  // Cumulative weights; empty: every row once.
  std::shared_ptr<const std::vector<double>> weights;
};

class Sequence {
 public:
  // `mixture`: null for a single source.
  Sequence(std::vector<SequencePart> parts, std::shared_ptr<const Mixture> mixture, uint64_t seed);

  struct Place {
    int source = 0;
    int64_t ordinal = 0;
  };
  Place At(const Point& point) const;
  // Positions of an epoch; nothing: no end.
  std::optional<int64_t> length() const;
  uint64_t seed() const { return seed_; }
  const std::vector<SequencePart>& parts() const { return parts_; }

  // The key of the random numbers of a sample: crops, flips, substitutes.
  uint64_t DrawKey(const Point& point) const;

 private:
  struct Orders {
    std::unique_ptr<EpochOrder> plain;
    std::unique_ptr<WeightedOrder> weighted;
  };
  std::shared_ptr<const Orders> OrdersOf(int source, int64_t epoch) const;

  std::vector<SequencePart> parts_;
  std::shared_ptr<const Mixture> mixture_;
  uint64_t seed_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<int, int64_t>, std::shared_ptr<const Orders>> orders_;
};

}  // namespace headrace::stream
