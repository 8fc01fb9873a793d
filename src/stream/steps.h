// Which positions a rank gets at each step. Pure arithmetic: step after step covers the next
// world · batch positions, and rank r gets those ≡ r (mod world), so any world size goes through the same
// sequence.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace headrace::stream {

enum class EpochEnd {
  kPad,    // the last step is filled up with rows that are not valid
  kDrop,   // what is less than a whole step is left out
  kShort,  // the last step has fewer rows, on some ranks none
  kWrap,   // the next epoch begins in the middle of a step; the stream has no end
};

struct Steps {
  int64_t batch = 1;  // rows per rank
  int rank = 0;
  int world = 1;
  EpochEnd end = EpochEnd::kPad;
};

struct Point {
  int64_t epoch = 0;
  int64_t position = 0;  // in the epoch
  bool operator==(const Point&) const = default;
};

struct Step {
  std::vector<Point> points;  // this rank's, ascending; with kPad fewer than `batch` in the last step
  Point after;                // where the next step begins
};

// The step that begins at `from`, in epochs of `length` positions (nothing: endless). Nothing: the epoch is
// over, and the next begins at {epoch + 1, 0}.
std::optional<Step> StepAt(const Steps& steps, const Point& from, std::optional<int64_t> length);

// How many steps there are from `position` to the end of the epoch; the same on every rank.
int64_t StepsLeft(const Steps& steps, int64_t position, int64_t length);

}  // namespace headrace::stream
