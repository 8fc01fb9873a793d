// Interleaves several sources by weight. Any position is computed directly, without replaying those before
// it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/status.h"

namespace headrace::stream {

// Shares as whole numbers: of every `cycle` positions, `quota[i]` are taken from source i, spread so that
// every prefix is within one sample of the ideal share (Tijdeman, "The chairman assignment problem", 1980).
class Pattern {
 public:
  // Weights to quotas that add up to `cycle` (largest remainders). Invalid if none is positive.
  static Result<Pattern> FromWeights(const std::vector<double>& weights, int64_t cycle = 1000);
  explicit Pattern(std::vector<int64_t> quota);

  int64_t cycle() const { return static_cast<int64_t>(source_.size()); }
  const std::vector<int64_t>& quota() const { return quota_; }
  int source(int64_t position) const { return source_[static_cast<size_t>(position % cycle())]; }
  // Samples of source i among the first `position` positions.
  int64_t Count(int i, int64_t position) const;
  // The position of the sample number `count` (from 0) of source i.
  int64_t PositionOf(int i, int64_t count) const;

 private:
  std::vector<int64_t> quota_;
  std::vector<uint16_t> source_;              // (cycle)
  std::vector<std::vector<int32_t>> places_;  // of each source in the cycle, ascending
};

// From `start` (a position) on, these weights. Starts are moved up to the next edge of a cycle.
struct Stage {
  int64_t start = 0;
  std::vector<double> weights;
};

enum class Exhaust { kRepeat, kStopAtFirst, kStopAtLast };

class Mixture {
 public:
  // `stages` ascending, the first at 0; `rows` of each source.
  static Result<Mixture> Make(const std::vector<Stage>& stages, std::vector<int64_t> rows, Exhaust exhaust,
                              int64_t cycle = 1000);

  struct Place {
    int source = 0;
    int64_t pass = 0;   // how often the source was gone through before
    int64_t index = 0;  // in [0, rows of the source)
  };
  Place At(int64_t position) const;
  // Positions until the sources are used up, as `exhaust` says; nothing if they repeat for ever.
  std::optional<int64_t> length() const { return length_; }
  const std::vector<int64_t>& rows() const { return rows_; }

 private:
  struct Part {
    int64_t start = 0;
    std::vector<int64_t> before;  // samples of each source before `start`
    Pattern pattern;
  };
  int64_t PositionOf(int source, int64_t count) const;
  std::vector<Part> parts_;
  std::vector<int64_t> rows_;
  std::optional<int64_t> length_;
};

}  // namespace headrace::stream
