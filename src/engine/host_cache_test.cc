#include "engine/host_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

namespace headrace::engine {
namespace {

using Kind = HostCache::Kind;

std::shared_ptr<const SavedPrefix> Prefix(uint64_t space, std::vector<model::Token> tokens, size_t bytes) {
  auto prefix = std::make_shared<SavedPrefix>();
  prefix->space = space;
  prefix->state.resize(bytes - tokens.size() * sizeof(model::Token));
  prefix->tokens = std::move(tokens);
  return prefix;
}

int32_t Longest(const HostCache& cache, uint64_t space, const std::vector<model::Token>& tokens) {
  return cache.LongestPrefix(space, tokens, 1, [](const SavedPrefix&, int32_t) { return true; }).length;
}

TEST(HostCache, TheLeastRecentlyUsedGoFirstWhateverTheyAre) {
  const auto cache = HostCache::Make({.cache = 1000});
  cache->PutPrefix(Prefix(1, {1, 2, 3}, 400));
  cache->PutGrammar("g", std::make_shared<const int>(5), 300);
  cache->PutPrefix(Prefix(1, {1, 2, 4, 5}, 300));
  EXPECT_EQ(cache->used(), 1000);
  EXPECT_EQ(Longest(*cache, 1, {1, 2, 3, 9}), 3);
  EXPECT_EQ(Longest(*cache, 2, {1, 2, 3, 9}), 0);
  cache->PutPrefix(Prefix(2, {7}, 350));  // the oldest prefix goes
  EXPECT_EQ(Longest(*cache, 1, {1, 2, 3, 9}), 2);
  EXPECT_NE(cache->FindGrammar("g"), nullptr);
  cache->PutPrefix(Prefix(2, {8}, 200));  // the grammar was looked at: the older prefix goes
  EXPECT_EQ(Longest(*cache, 1, {1, 2, 3, 9}), 0);
  EXPECT_NE(cache->FindGrammar("g"), nullptr);
  cache->PutPrefix(Prefix(3, {8}, 1001));  // never fits, and nothing goes for it
  EXPECT_EQ(Longest(*cache, 3, {8}), 0);
  EXPECT_EQ(cache->used(), 850);
  EXPECT_EQ(cache->Audit(), "");
}

TEST(HostCache, ChargesStayAndEntriesGiveWay) {
  const auto cache = HostCache::Make({.cache = 1000, .total = 2500});
  cache->PutPrefix(Prefix(1, {1}, 600));
  {
    const auto preempted = cache->TryCharge(Kind::kPreempted, 700);  // the prefix goes for it
    ASSERT_TRUE(preempted);
    EXPECT_EQ(Longest(*cache, 1, {1}), 0);
    EXPECT_FALSE(cache->TryCharge(Kind::kPreempted, 400));  // nothing can go for this
    EXPECT_EQ(cache->used(), 700);
  }
  EXPECT_EQ(cache->used(), 0);
  // Models count in the total: one that is retired takes its memory until it goes.
  auto retired = cache->TryCharge(Kind::kModel, 1200);
  auto served = cache->TryCharge(Kind::kModel, 1200);
  ASSERT_TRUE(retired && served);
  EXPECT_FALSE(cache->TryCharge(Kind::kModel, 200));
  EXPECT_EQ(cache->room(), 100);
  cache->PutPrefix(Prefix(1, {1}, 200));
  EXPECT_EQ(Longest(*cache, 1, {1}), 0);
  retired.reset();
  EXPECT_EQ(cache->room(), 1000);
  cache->PutPrefix(Prefix(1, {1}, 900));
  EXPECT_EQ(Longest(*cache, 1, {1}), 1);
  const auto third = cache->TryCharge(Kind::kModel, 1000);  // prefixes give way to a model
  EXPECT_TRUE(third);
  EXPECT_EQ(Longest(*cache, 1, {1}), 0);
  EXPECT_EQ(cache->Audit(), "");
}

// Under ThreadSanitizer in CI.
TEST(Threads, EnginesShareAHostCache) {
  const auto cache = HostCache::Make({.cache = 5000});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 2000; ++i) {
        const model::Token token = static_cast<model::Token>(random() % 8);
        if (random() % 3 == 0) cache->PutPrefix(Prefix(random() % 2, {token, 1, 2}, 50 + random() % 900));
        if (random() % 5 == 0)
          cache->PutGrammar(std::to_string(token), std::make_shared<int>(i), random() % 500);
        (void)cache->FindGrammar(std::to_string(token));
        const std::vector<model::Token> tokens = {token, 1};
        const auto match =
            cache->LongestPrefix(random() % 2, tokens, 1, [](const SavedPrefix&, int32_t) { return true; });
        if (match.prefix && random() % 2 == 0) cache->TakePrefix(match.prefix.get());
        const auto charge = cache->TryCharge(Kind::kPreempted, random() % 3000);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(cache->Audit(), "");
  EXPECT_EQ(cache->bytes(Kind::kPreempted), 0);
}

}  // namespace
}  // namespace headrace::engine
