// Keys of prompts: what may be shared, and what not.
#include "engine/prompt.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/fake_decoder.h"
#include "engine/kv_cache.h"

namespace headrace::engine {
namespace {

using Tokens = std::vector<Token>;

// system, an image, a question
Prompt About(const std::string& image, int32_t positions, const Tokens& question) {
  Prompt prompt({1, 2, 3});
  prompt.Add(Media{image, positions});
  prompt.Add(question);
  return prompt;
}

TEST(Prompt, KeysAreThoseOfItsPieces) {
  Prompt plain({4, 5});
  plain.Add(Tokens{});
  plain.Add(Tokens{6});
  EXPECT_EQ(plain.keys(), (Tokens{4, 5, 6}));
  EXPECT_EQ(plain.pieces().size(), 1U);  // tokens that follow tokens are one piece
  EXPECT_TRUE(Prompt().empty());
  const Prompt seen = About("cat", 4, {7, 8});
  ASSERT_EQ(seen.size(), 9U);
  EXPECT_EQ(seen.pieces().size(), 3U);
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(IsMediaKey(seen.keys()[i]), i >= 3 && i < 7) << i;
  EXPECT_EQ(seen.keys(), About("cat", 4, {7, 8}).keys());  // the same image: the same keys
  const Prompt other = About("dog", 4, {7, 8});
  for (size_t i = 3; i < 7; ++i) EXPECT_NE(seen.keys()[i], other.keys()[i]) << i;
  // Positions of one image have keys of their own.
  const Tokens keys = About("cat", 2000, {}).keys();
  EXPECT_EQ(std::set<Token>(keys.begin() + 3, keys.end()).size(), 2000U);
}

TEST(Prompt, APrefixEndsBetweenPieces) {
  Prompt prompt = About("cat", 3, {});
  prompt.Add(Media{"dog", 2});  // right behind it: only the mark tells where it begins
  prompt.Add(Tokens{9});
  const Tokens& keys = prompt.keys();  // 0 1 2 | 3 4 5 | 6 7 | 8
  const int32_t wanted[] = {0, 1, 2, 3, 3, 3, 6, 6, 8, 9};
  for (int32_t length = 0; length <= 9; ++length)
    EXPECT_EQ(WholePieces(keys, length), wanted[length]) << length;
  // Whether media go on behind the last key, nobody knows.
  EXPECT_EQ(WholePieces(std::span(keys).first(7), 7), 6);
  EXPECT_EQ(WholePieces(std::span(keys).first(8), 8), 6);
}

// The cache finds what was read by its keys: an image is read again if and only if it is another.
TEST(Prompt, TheCacheSharesWholeMedia) {
  double clock = 0;
  model::DecoderFacts facts;
  facts.vocabulary = 50;
  facts.paths = 4;
  facts.cells = facts.context = 200;
  facts.max_rows = 64;
  FakeDecoder decoder(facts, &clock, 1);
  KvCache cache(&decoder, {.least_saved = 2, .least_kept = 1}, HostCache::Make({}));
  const Prompt read = About("cat", 6, {7, 8, 9});
  KvCache::Claim claim;
  claim.tokens = read.keys();
  claim.cells = static_cast<int64_t>(read.size());
  const auto grant = cache.Allocate({}, claim);
  ASSERT_TRUE(grant);
  std::vector<model::Row> rows;
  for (size_t i = 0; i < read.size(); ++i)
    rows.push_back({read.keys()[i], static_cast<int32_t>(i), grant->path, false});
  ASSERT_TRUE(cache.Compute(rows, 1).ok());
  cache.Release(grant->path, true, 1);
  const auto shared = [&](const Prompt& prompt) { return cache.MatchPrefix(0, prompt.keys()).longest(); };
  for (const bool saved : {false, true}) {
    SCOPED_TRACE(saved);
    if (saved) cache.EvictIdle();
    EXPECT_EQ(shared(About("cat", 6, {7, 8, 1})), 11);
    EXPECT_EQ(shared(About("cat", 6, {1, 8})), 9);
    EXPECT_EQ(shared(About("dog", 6, {7, 8, 9})), 3);
    Prompt text({1, 2, 3, 7, 8});
    EXPECT_EQ(shared(text), 3);
    // The same beginning of another length: never a part of an image.
    EXPECT_EQ(shared(About("cat", 9, {7})), saved ? 0 : 3);
  }
}

}  // namespace
}  // namespace headrace::engine
