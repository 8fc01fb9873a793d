// The measurement by a false clock: which pass counts, and what it is divided by.
#include "engine/memory_speed.h"

#include <gtest/gtest.h>

#include <vector>

namespace headrace::engine {
namespace {

// A clock whose passes take these seconds, one after the other.
std::function<double()> Taking(std::vector<double> passes) {
  return [passes, now = 100.0, calls = size_t{0}]() mutable {
    if (calls % 2 == 1) now += passes.at(calls / 2);
    ++calls;
    return now;
  };
}

TEST(MemorySpeed, TheFastestPassCounts) {
  constexpr size_t kBytes = 8000;
  EXPECT_NEAR(MeasureMemorySpeed(1, Taking({0.5, 0.25, 2, 1}), kBytes), kBytes / 0.25, 1);
  EXPECT_NEAR(MeasureMemorySpeed(1, Taking({0.5, 0.5, 2, 0.125}), kBytes), kBytes / 0.125, 1);
}

// All threads' bytes are counted, those that are no whole part are not.
TEST(MemorySpeed, ThreadsReadTogether) {
  EXPECT_NEAR(MeasureMemorySpeed(4, Taking({1, 1, 1, 1}), 8000), 8000, 1e-6);
  EXPECT_NEAR(MeasureMemorySpeed(3, Taking({1, 1, 1, 1}), 8000), 8 * 999, 1e-6);
  EXPECT_NEAR(MeasureMemorySpeed(0, Taking({1, 1, 1, 1}), 8000), 8000, 1e-6);
  EXPECT_NEAR(MeasureMemorySpeed(4, Taking({1, 1, 1, 1}), 0), 8 * 4, 1e-6);
}

// A clock that stands still gives a number all the same.
TEST(MemorySpeed, AClockThatStandsStill) {
  EXPECT_NEAR(MeasureMemorySpeed(1, Taking({0, 0, 0, 0}), 8), 8e9, 1);
}

}  // namespace
}  // namespace headrace::engine
