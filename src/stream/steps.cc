#include "stream/steps.h"

#include <algorithm>

#include "base/check.h"

namespace headrace::stream {

std::optional<Step> StepAt(const Steps& steps, const Point& from, std::optional<int64_t> length) {
  HEADRACE_CHECK(steps.batch >= 1 && steps.world >= 1 && steps.rank >= 0 && steps.rank < steps.world);
  const int64_t whole = steps.batch * steps.world;
  int64_t end = from.position + whole;
  Step step;
  step.after = {from.epoch, end};
  if (length && steps.end != EpochEnd::kWrap) {
    if (from.position >= *length) return std::nullopt;
    if (end > *length) {
      if (steps.end == EpochEnd::kDrop) return std::nullopt;
      end = *length;
      step.after.position = end;
    }
  }
  // The first position of this rank at or after `from`.
  const int64_t shift = ((steps.rank - from.position) % steps.world + steps.world) % steps.world;
  for (int64_t p = from.position + shift; p < end; p += steps.world) {
    Point point{from.epoch, p};
    if (length && steps.end == EpochEnd::kWrap) {
      point.epoch += p / *length;
      point.position = p % *length;
    }
    step.points.push_back(point);
  }
  if (length && steps.end == EpochEnd::kWrap) {
    step.after = {from.epoch + end / *length, end % *length};
  }
  return step;
}

int64_t StepsLeft(const Steps& steps, int64_t position, int64_t length) {
  const int64_t whole = steps.batch * steps.world;
  const int64_t left = std::max<int64_t>(0, length - position);
  return steps.end == EpochEnd::kDrop ? left / whole : (left + whole - 1) / whole;
}

}  // namespace headrace::stream
