// Tokens drawn from logits: against the definition, and by several threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "engine/drawer.h"
#include "engine/sampler.h"

namespace headrace::engine {
namespace {

// Probabilities by the definition: sort everything, in double.
std::vector<double> Reference(const std::vector<float>& logits, const Sampling& s) {
  std::vector<std::pair<double, size_t>> order;
  const double top = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < logits.size(); ++i)
    order.emplace_back(std::exp((logits[i] - top) / s.temperature), i);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (s.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(s.top_k)));
  double total = 0, sum = 0;
  for (const auto& [p, i] : order) total += p;
  std::vector<double> result(logits.size(), 0.0);
  double kept = 0;
  const double likeliest = order[0].first;
  for (const auto& [p, i] : order) {
    if (kept > 0 && ((s.top_p < 1 && sum >= s.top_p * total) || p < s.min_p * likeliest)) break;
    sum += p;
    kept += p;
    result[i] = p;
  }
  for (double& p : result) p /= kept;
  return result;
}

TEST(Sampler, AgreesWithAPlainReferenceByChiSquare) {
  std::mt19937_64 random(1);
  int tests = 0, rejected = 0;
  for (const int size : {7, 300, 5000}) {
    for (const double spread : {0.5, 2.0, 6.0}) {
      std::normal_distribution<float> normal(0, static_cast<float>(spread));
      std::vector<float> logits(static_cast<size_t>(size));
      for (float& logit : logits) logit = normal(random);
      for (int kind = 0; kind < 7; ++kind) {
        Sampling s;
        s.temperature = kind == 1 ? 0.5F : kind == 2 ? 1.7F : 1.0F;
        s.top_p = kind == 3 || kind == 6 ? 0.9F : 1.0F;
        s.top_k = kind == 4 || kind == 6 ? 40 : 0;
        s.min_p = kind == 5 ? 0.1F : 0.0F;
        s.seed = random();
        const std::vector<double> want = Reference(logits, s);
        Sampler sampler(size);
        constexpr int kDraws = 20'000;
        std::map<Token, int> counts;
        for (int n = 0; n < kDraws; ++n)
          ++counts[sampler.Sample(logits, s, {}, {}, static_cast<uint64_t>(n))];
        double chi = 0, rest_want = 0, rest_got = 0;
        int cells = 0;
        for (size_t i = 0; i < want.size(); ++i) {
          const double expected = want[i] * kDraws;
          const auto found = counts.find(static_cast<Token>(i));
          const double got = found == counts.end() ? 0 : found->second;
          if (want[i] == 0) {
            ASSERT_EQ(got, 0) << "token " << i << " is outside, size " << size << ", kind " << kind;
          } else if (expected < 10) {
            rest_want += expected;
            rest_got += got;
          } else {
            chi += (got - expected) * (got - expected) / expected;
            ++cells;
          }
        }
        if (rest_want > 10) {
          chi += (rest_got - rest_want) * (rest_got - rest_want) / rest_want;
          ++cells;
        }
        if (cells < 2) continue;
        const double freedom = cells - 1;
        // Wilson and Hilferty: the cube root of chi-square over freedom is nearly normal.
        const double z = (std::cbrt(chi / freedom) - (1 - 2 / (9 * freedom))) / std::sqrt(2 / (9 * freedom));
        ++tests;
        rejected += z > 2.326 ? 1 : 0;  // one in a hundred by chance
        EXPECT_LT(z, 4.5) << "size " << size << ", spread " << spread << ", kind " << kind;
      }
    }
  }
  EXPECT_LE(rejected, 4) << "of " << tests;
}

// Asking about the likeliest tokens gives what the whole mask gives, or says that it cannot tell.
TEST(Sampler, AskingGivesTheTokenOfTheMask) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  const int vocabulary = 3'000;
  Sampler sampler(vocabulary);
  std::vector<float> logits(vocabulary);
  int resolved = 0, asked = 0;
  for (int round = 0; round < 10'000; ++round) {
    const float spread = 1.0F + static_cast<float>(round % 6);
    for (float& x : logits) x = spread * normal(random);
    std::vector<int32_t> mask((vocabulary + 31) / 32, 0);
    const uint32_t density = 1 + random() % 10;  // of ten
    for (int t = 0; t < vocabulary; ++t)
      if (random() % 10 < density) mask[static_cast<size_t>(t / 32)] |= static_cast<int32_t>(1U << (t % 32));
    Sampling sampling;
    sampling.temperature = round % 7 == 0 ? 0.0F : 0.4F + 0.1F * static_cast<float>(random() % 8);
    sampling.top_p = 0.5F + 0.1F * static_cast<float>(random() % 5);
    sampling.min_p = round % 3 == 0 ? 0.05F : 0.0F;
    sampling.seed = random();
    if (round % 5 == 0) sampling.logit_bias = {{static_cast<Token>(random() % vocabulary), 5.0F}};
    History history;
    if (round % 4 == 0) {
      sampling.frequency_penalty = 0.5F;
      history.Said(static_cast<Token>(random() % vocabulary));
    }
    const Token got = sampler.SampleAsking(
        logits, sampling, history,
        [&](Token t) {
          ++asked;
          return ((static_cast<uint32_t>(mask[static_cast<size_t>(t / 32)]) >> (t % 32)) & 1U) != 0;
        },
        7);
    const Token want = sampler.Sample(logits, sampling, history, mask, 7);
    if (got == Sampler::kUnresolved) continue;
    ++resolved;
    ASSERT_EQ(got, want) << "round " << round;
  }
  EXPECT_GT(resolved, 5'000);
  EXPECT_LT(asked, 64 * 10'000);
}

// Several threads draw what one draws. (Run under ThreadSanitizer too.)
TEST(Threads, ManyDrawWhatOneDraws) {
  const int vocabulary = 2'000;
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  Drawer alone(vocabulary, 1), many(vocabulary, 4);
  for (int round = 0; round < 40; ++round) {
    std::vector<std::vector<float>> logits(1 + random() % 9, std::vector<float>(vocabulary));
    std::vector<Sampling> samplings(logits.size());
    const History history;
    std::vector<Draw> draws;
    for (size_t i = 0; i < logits.size(); ++i) {
      for (float& x : logits[i]) x = 4 * normal(random);
      samplings[i].top_p = 0.9F;
      samplings[i].seed = random();
      draws.push_back({logits[i], &samplings[i], &history, nullptr, static_cast<uint64_t>(round)});
    }
    many.Together(draws);
    for (const Draw& draw : draws) ASSERT_EQ(draw.token, alone.One(draw));
  }
}

TEST(Sampler, MasksBiasesAndPenalties) {
  Sampler sampler(100);
  std::vector<float> logits(100, 0.0F);
  logits[10] = 5;
  logits[20] = 4;
  Sampling greedy;
  greedy.temperature = 0;
  EXPECT_EQ(sampler.Sample(logits, greedy, {}, {}, 0), 10);
  std::vector<int32_t> mask(4, 0);
  EXPECT_EQ(sampler.Sample(logits, greedy, {}, mask, 0), -1);
  mask[0] = 1 << 20;
  EXPECT_EQ(sampler.Sample(logits, greedy, {}, mask, 0), 20);
  mask = {0, 0, 0, 1 << 3};  // token 99: beyond the last whole word
  EXPECT_EQ(sampler.Sample(logits, greedy, {}, mask, 0), 99);
  Sampling biased = greedy;
  biased.logit_bias = {{10, -100.0F}, {30, 4.5F}};
  EXPECT_EQ(sampler.Sample(logits, biased, {}, {}, 0), 30);
  History said;
  said.Said(10);
  said.Said(10);
  Sampling penalised = greedy;
  penalised.frequency_penalty = 0.6F;
  EXPECT_EQ(sampler.Sample(logits, penalised, said, {}, 0), 20);
  penalised.frequency_penalty = 0;
  penalised.repetition_penalty = 1.5F;
  EXPECT_EQ(sampler.Sample(logits, penalised, said, {}, 0), 20);
  std::vector<float> nothing(100, NAN);
  EXPECT_EQ(sampler.Sample(nothing, Sampling{}, {}, {}, 0), -1);
  // A request's random numbers are its own.
  EXPECT_EQ(Uniform(5, 3), Uniform(5, 3));
  EXPECT_NE(Uniform(5, 3), Uniform(6, 3));
  double mean = 0;
  for (uint64_t n = 0; n < 10'000; ++n) mean += Uniform(n % 100, n / 100) / 10'000;
  EXPECT_NEAR(mean, 0.5, 0.02);
}

TEST(Sampler, WhatMayNotCome) {
  Sampler sampler(100);
  std::vector<float> logits(100, 0.0F);
  logits[10] = 5;
  logits[20] = 4;
  logits[30] = 3;
  Sampling greedy;
  greedy.temperature = 0;
  // A word of several tokens: only its last one, and only after its others.
  greedy.bad_words = {{5, 6, 10}, {20, 10}};
  const std::vector<Token> said = {5, 6, 20, 5, 6};
  History history;
  history.said = said;
  EXPECT_EQ(sampler.Sample(logits, greedy, history, {}, 0), 20);  // 5, 6 and then 10 is the word
  history.begin = 4;                                              // of the answer is only the 6
  EXPECT_EQ(sampler.Sample(logits, greedy, history, {}, 0), 10);
  history.said = std::span<const Token>(said).first(3);
  history.begin = 2;
  EXPECT_EQ(sampler.Sample(logits, greedy, history, {}, 0), 20);
  greedy.bad_words = {{10}, {20}};
  EXPECT_EQ(sampler.Sample(logits, greedy, {}, {}, 0), 30);
  EXPECT_EQ(sampler.SampleAsking(
                logits, greedy, {}, [](Token) { return true; }, 0),
            30);
  // The end is held back for so many tokens, unless a grammar leaves nothing else.
  Sampling held;
  held.temperature = 0;
  held.min_tokens = 2;
  held.held = {10};
  history = {};
  EXPECT_EQ(sampler.Sample(logits, held, history, {}, 0), 20);
  history.said = std::span<const Token>(said).first(2);
  EXPECT_EQ(sampler.Sample(logits, held, history, {}, 0), 10);
  std::vector<int32_t> mask(4, 0);
  mask[0] = 1 << 10;
  EXPECT_EQ(sampler.Sample(logits, held, {}, mask, 0), 10);
}

TEST(Sampler, ExcludesTopChoices) {
  Sampler sampler(4);
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.15F), std::log(0.05F)};
  const auto drawn = [&](float probability, float threshold, float top_p) {
    Sampling s;
    s.xtc_probability = probability;
    s.xtc_threshold = threshold;
    s.top_p = top_p;
    std::set<Token> tokens;
    for (uint64_t n = 0; n < 400; ++n) tokens.insert(sampler.Sample(logits, s, {}, {}, n));
    return tokens;
  };
  using Tokens = std::set<Token>;
  EXPECT_EQ(drawn(1, 0.1F, 1), (Tokens{2, 3}));  // 0 and 1 are likelier than the last above a tenth
  EXPECT_EQ(drawn(1, 0.2F, 1), (Tokens{1, 2, 3}));
  EXPECT_EQ(drawn(1, 0.4F, 1), (Tokens{0, 1, 2, 3}));  // one alone stays
  EXPECT_EQ(drawn(1, 0.6F, 1), (Tokens{0, 1, 2, 3}));
  EXPECT_EQ(drawn(1, 0.1F, 0.75F), (Tokens{1}));  // after top_p
  EXPECT_EQ(drawn(0.5F, 0.1F, 1), (Tokens{0, 1, 2, 3}));
}

}  // namespace
}  // namespace headrace::engine
