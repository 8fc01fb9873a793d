// Drafts by prompt lookup.
#include <gtest/gtest.h>

#include "engine/speculate.h"

namespace headrace::engine {
namespace {

TEST(Lookup, DraftsWhatFollowedBefore) {
  Lookup lookup;
  std::vector<Token> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3};
  lookup.Extend(tokens);
  EXPECT_EQ(lookup.Draft(tokens, 4), (std::vector<Token>{4, 5, 6, 7}));
  tokens.push_back(42);
  lookup.Extend(tokens);
  EXPECT_TRUE(lookup.Draft(tokens, 4).empty());
  CostTable costs(1, 0.02);
  for (const int rows : {1, 2, 4, 8, 16, 32})
    for (int i = 0; i < 20; ++i) costs.Observe({rows, rows, 0}, 1, 0.012 + 0.003 * rows);
  EXPECT_GT(lookup.Worth(costs, {}, 10, 1), 0);
  for (int i = 0; i < 5; ++i) lookup.Verified(8, 0);
  int offered = 0;
  for (int i = 0; i < 40; ++i) {  // it rests after failures: for 2^5 steps
    if (!lookup.resting()) ++offered;
    if (lookup.resting()) lookup.Rest();
  }
  EXPECT_EQ(offered, 8);
  EXPECT_EQ(lookup.Worth(costs, {}, 10, 1), lookup.Worth(costs, {}, 10, 1));
}

}  // namespace
}  // namespace headrace::engine
