#include "trace/span_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace headrace::trace {
namespace {

SpanFacts Facts(const std::string& id, const std::string& parent, int64_t started, int64_t ended) {
  SpanFacts facts;
  facts.span_id = id;
  facts.parent = parent;
  facts.started = started;
  facts.ended = ended;
  return facts;
}

std::string Order(const std::vector<SpanFacts>& spans) {
  std::string text;
  for (const TreeSpan& span : LayOut(spans))
    text += std::string(static_cast<size_t>(span.depth), '.') + spans[span.span].span_id;
  return text;
}

TEST(SpanTree, ChildrenFollowTheirParentsByTime) {
  EXPECT_EQ(Order({Facts("c", "a", 30, 40), Facts("a", "", 10, 90), Facts("b", "a", 20, 25),
                   Facts("d", "b", 21, 22), Facts("z", "", 5, 6)}),
            "za.b..d.c");
}

TEST(SpanTree, OrphansTwinsAndLoopsAreThereOnce) {
  EXPECT_EQ(Order({Facts("a", "gone", 1, 2)}), "a");
  EXPECT_EQ(Order({Facts("a", "a", 1, 2)}), "a");
  EXPECT_EQ(Order({Facts("a", "", 1, 2), Facts("a", "", 3, 4), Facts("b", "a", 2, 3)}), "a.ba");
  const std::string loop =
      Order({Facts("a", "b", 1, 2), Facts("b", "c", 2, 3), Facts("c", "a", 3, 4), Facts("d", "b", 4, 5)});
  for (const char c : {'a', 'b', 'c', 'd'}) EXPECT_EQ(std::count(loop.begin(), loop.end(), c), 1) << loop;
}

// Any parents, and a chain that no recursion would survive.
TEST(SpanTree, EachSpanIsInItOnce) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<SpanFacts> spans;
    const int count = 1 + static_cast<int>(random() % 30);
    for (int i = 0; i < count; ++i)
      spans.push_back(Facts(std::to_string(random() % 30), std::to_string(random() % 40),
                            static_cast<int64_t>(random() % 100), 100));
    std::set<size_t> seen;
    int last = -1;
    for (const TreeSpan& span : LayOut(spans)) {
      EXPECT_TRUE(seen.insert(span.span).second);
      EXPECT_LE(span.depth, last + 1);
      last = span.depth;
    }
    EXPECT_EQ(seen.size(), spans.size());
  }
  std::vector<SpanFacts> chain;
  for (int i = 0; i < 200'000; ++i)
    chain.push_back(Facts(std::to_string(i), std::to_string(i - 1), i, i + 1));
  EXPECT_EQ(LayOut(chain).back().depth, 199'999);
}

TEST(SpanTree, TokensAreNotCountedTwice) {
  std::vector<SpanFacts> spans = {Facts("agent", "", 0, 9), Facts("one", "agent", 1, 2),
                                  Facts("two", "agent", 3, 4), Facts("tool", "agent", 5, 6),
                                  Facts("other", "", 7, 8)};
  spans[0].prompt_tokens = 30;  // the agent tells its calls' sum
  spans[1].prompt_tokens = 10;
  spans[2].prompt_tokens = 20;
  spans[2].cost = 0.5;
  spans[1].cost = 0.25;
  const auto tree = LayOut(spans);
  EXPECT_EQ(tree[0].prompt_tokens, 30);
  EXPECT_EQ(tree[0].answer_tokens, -1);
  EXPECT_EQ(tree[0].cost, 0.75);
  EXPECT_EQ(tree[3].cost, -1);
  EXPECT_EQ(tree[4].prompt_tokens, -1);
}

TEST(SpanTree, PhasesOfARequestAreBelowIt) {
  SpanFacts request = Facts("r", "", 1'000'000, 3'000'000);
  request.queue = 0.25;
  request.prefill = 0.5;
  request.decode = 1;
  request.first_token = 1;
  const auto tree = LayOut({request});
  ASSERT_EQ(tree.size(), 4U);
  EXPECT_EQ(tree[1].phase, Phase::kQueue);
  EXPECT_EQ(tree[1].started, 1'250'000);
  EXPECT_EQ(tree[2].phase, Phase::kPrefill);
  EXPECT_EQ(tree[2].started, 1'500'000);
  EXPECT_EQ(tree[3].phase, Phase::kDecode);
  EXPECT_EQ(tree[3].started, 2'000'000);
  EXPECT_EQ(tree[3].seconds, 1);
  EXPECT_EQ(tree[3].depth, 1);
}

}  // namespace
}  // namespace headrace::trace
