// Which texts are computed together: every one once, within the limits, and keys take turns.
#include "engine/embed_queue.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace headrace::engine {
namespace {

TEST(EmbedQueue, EachTextOnceWithinTheLimits) {
  std::mt19937 random(5);
  const auto pick = [&](size_t low, size_t high) {
    return std::uniform_int_distribution<size_t>(low, high)(random);
  };
  size_t lanes_used = 0;
  for (int round = 0; round < 300; ++round) {
    const EmbedQueue::Limits limits{pick(1, 4), 1024, pick(1, 64)};
    const MachineProfile machine;
    EmbedQueue queue(limits, machine);
    std::map<size_t, size_t> waiting;  // index: tokens
    size_t next = 0;
    while (next < 60 || !queue.empty()) {
      for (size_t more = next < 60 ? pick(0, 20) : 0; more > 0; --more) {
        const size_t tokens = pick(1, pick(0, 9) == 0 ? 1024 : 200);
        queue.Push({nullptr, next, tokens, std::string(1, static_cast<char>('a' + pick(0, 2)))});
        waiting[next++] = tokens;
      }
      const auto steps = queue.NextSteps();
      ASSERT_EQ(steps.empty(), waiting.empty());
      if (steps.size() > 1) lanes_used = std::max(lanes_used, steps.size());
      for (const EmbedStep& step : steps) {
        ASSERT_FALSE(step.empty());
        ASSERT_LE(step.size(), limits.max_texts);
        size_t tokens = 0;
        for (const EmbedText& text : step) {
          ASSERT_EQ(waiting.at(text.index), text.tokens);
          waiting.erase(text.index);
          tokens += text.tokens;
        }
        // A text alone may be as long as the model reads.
        const auto most = static_cast<size_t>(machine.lane_rows);
        ASSERT_TRUE(tokens <= most || (step.size() == 1 && steps.size() == 1)) << tokens;
      }
      size_t left = 0;
      for (const auto& [index, tokens] : waiting) left += tokens;
      ASSERT_EQ(queue.tokens(), left);
      ASSERT_EQ(queue.size(), waiting.size());
    }
  }
  EXPECT_GT(lanes_used, 4U);  // several turns of several lanes
}

// A short list of one key is not behind another's long one.
TEST(EmbedQueue, KeysTakeTurns) {
  EmbedQueue queue({1, 1024, 4}, MachineProfile());
  for (size_t i = 0; i < 200; ++i) queue.Push({nullptr, i, 100, "long"});
  queue.Push({nullptr, 1000, 100, "short"});
  for (int step = 0; step < 3; ++step) {
    const auto steps = queue.NextSteps();
    for (const EmbedText& text : steps[0])
      if (text.key == "short") return;
  }
  FAIL() << "three steps, and none of them had it";
}

TEST(EmbedQueue, WhatIsRemovedIsNotComputed) {
  EmbedQueue queue({2, 1024, 64}, MachineProfile());
  for (size_t i = 0; i < 100; ++i) queue.Push({nullptr, i, 50, "a"});
  queue.RemoveIf([](const EmbedText& text) { return text.index % 2 == 0; });
  EXPECT_EQ(queue.size(), 50U);
  EXPECT_EQ(queue.tokens(), 2500U);
  std::set<size_t> seen;
  queue.ForEach([&](const EmbedText& text) { seen.insert(text.index); });
  EXPECT_EQ(seen.size(), 50U);
  EXPECT_EQ(seen.count(2), 0U);
  while (!queue.empty())
    for (const EmbedStep& step : queue.NextSteps())
      for (const EmbedText& text : step) EXPECT_EQ(text.index % 2, 1U);
}

}  // namespace
}  // namespace headrace::engine
