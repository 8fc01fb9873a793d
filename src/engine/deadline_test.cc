// Who begins so that answers with a deadline come in time.
#include <gtest/gtest.h>

#include "engine/cost_table.h"
#include "engine/deadline.h"

namespace headrace::engine {
namespace {

// Steps of so many decoding rows take `fixed` + `row` × rows.
CostTable Machine(double fixed, double row) {
  CostTable costs(2, 0.01);
  for (int round = 0; round < 60; ++round)
    for (int rows = 1; rows <= 128; rows *= 2) costs.Observe({rows, rows, 0}, 2, fixed + row * rows);
  return costs;
}

TEST(Deadline, NoMoreAtOnceThanTheMachineGetsSomethingOutOf) {
  EXPECT_EQ(Knee(Machine(0.1, 0.0001), 2, 32), 32);  // weights are what a step waits for: the more the better
  EXPECT_EQ(Knee(Machine(0.0, 0.01), 2, 32), 1);     // arithmetic alone
  // 1: 2 × 30 ms against 1.25 × 40; 2: 2 × 40 against 1.25 × 60; 4: 2 × 60 against 1.25 × 100.
  EXPECT_EQ(Knee(Machine(0.02, 0.01), 2, 32), 4);
}

TEST(Deadline, NobodyIsLateOnAnothersAccount) {
  const CostTable costs = Machine(0.02, 0.01);  // 30 ms alone, 40 ms for each of two
  const Timed next{0, 10, 1.0};
  EXPECT_TRUE(MayBeginInTime(next, {}, 0.6, costs, 2));
  EXPECT_FALSE(MayBeginInTime(next, {}, 0.8, costs, 2));  // late by itself
  EXPECT_TRUE(MayBeginInTime({0, 10, 0}, {}, 0.8, costs, 2));
  const Timed running[] = {{0, 10, 0.95}};
  EXPECT_TRUE(MayBeginInTime(next, running, 0.5, costs, 2));
  EXPECT_FALSE(MayBeginInTime(next, running, 0.58, costs, 2));  // 0.98: the one that runs would be late
  const Timed doomed[] = {{0, 10, 0.6}};                        // it is late anyhow
  EXPECT_TRUE(MayBeginInTime(next, doomed, 0.58, costs, 2));
  const Timed patient[] = {{0, 10, 0}};
  EXPECT_TRUE(MayBeginInTime(next, patient, 0.58, costs, 2));
  EXPECT_FALSE(MayBeginInTime({200, 10, 1.0}, {}, 0.6, costs, 2));  // its prompt counts
}

TEST(Deadline, HopelessAndPressed) {
  const CostTable costs = Machine(0.02, 0.01);
  EXPECT_FALSE(Hopeless({0, 10, 1.0}, 0.8, costs, 2));  // late as expected, but steps may be faster
  EXPECT_TRUE(Hopeless({0, 10, 1.0}, 0.9, costs, 2));
  EXPECT_FALSE(Hopeless({0, 10, 0}, 1e9, costs, 2));
  EXPECT_FALSE(Pressed(0, 8, 0.9));
  EXPECT_TRUE(Pressed(0, 8, 1.1));
  EXPECT_FALSE(Pressed(0, 0, 100));
}

}  // namespace
}  // namespace headrace::engine
