// The pure policies, one by one.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <thread>

#include "base/utf8.h"
#include "engine/engine.h"
#include "engine/fake_decoder.h"

namespace headrace::engine {
namespace {

// ---------------------------------------------------------------- sampler

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

// ---------------------------------------------------------------- prefix tree

// Against the plainest thing that could be right: every path its own list of (cell, token).
TEST(PrefixTree, AgreesWithListsOfCells) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](int64_t low, int64_t high) {
      return std::uniform_int_distribution<int64_t>(low, high)(random);
    };
    constexpr int kPaths = 8;
    PrefixTree tree(kPaths);
    std::vector<std::vector<std::pair<int, Token>>> lists(kPaths);
    std::vector<uint64_t> roots(kPaths);
    std::vector<bool> open(kPaths, false);
    int next_cell = 0;
    for (int step = 0; step < 200; ++step) {
      const int path = static_cast<int>(pick(0, kPaths - 1));
      const auto p = static_cast<size_t>(path);
      if (!open[p]) {
        const uint64_t root = static_cast<uint64_t>(pick(0, 1));
        std::vector<Token> wanted;
        for (int64_t i = pick(0, 12); i > 0; --i) wanted.push_back(static_cast<Token>(pick(0, 2)));
        const PrefixTree::Match match = tree.Find(root, wanted);
        int32_t best = 0;
        for (size_t other = 0; other < kPaths; ++other) {
          if (!open[other] || roots[other] != root) continue;
          int32_t common = 0;
          while (common < static_cast<int32_t>(std::min(lists[other].size(), wanted.size())) &&
                 lists[other][static_cast<size_t>(common)].second == wanted[static_cast<size_t>(common)])
            ++common;
          best = std::max(best, common);
        }
        ASSERT_EQ(match.length, best) << seed;
        if (match.length > 0) {
          const auto covering = tree.Covering(match.path, match.length);
          ASSERT_EQ(covering.front(), match.path);
          for (const int c : covering)
            for (int32_t i = 0; i < match.length; ++i)
              ASSERT_EQ(lists[static_cast<size_t>(c)][static_cast<size_t>(i)].first,
                        lists[static_cast<size_t>(match.path)][static_cast<size_t>(i)].first);
        }
        tree.Open(path, root, match.path, match.length);
        if (match.length > 0)
          lists[p].assign(lists[static_cast<size_t>(match.path)].begin(),
                          lists[static_cast<size_t>(match.path)].begin() + match.length);
        open[p] = true;
        roots[p] = root;
      } else if (pick(0, 9) < 6) {
        std::vector<Token> more;
        for (int64_t i = pick(1, 5); i > 0; --i) {
          more.push_back(static_cast<Token>(pick(0, 2)));
          lists[p].emplace_back(next_cell++, more.back());
        }
        tree.Append(path, more);
      } else if (pick(0, 1) == 0) {
        const auto length = static_cast<int32_t>(pick(0, static_cast<int64_t>(lists[p].size())));
        tree.Truncate(path, length);
        lists[p].resize(static_cast<size_t>(length));
      } else {
        tree.Close(path);
        lists[p].clear();
        open[p] = false;
      }
      std::map<int, int> holders;
      for (size_t other = 0; other < kPaths; ++other)
        for (const auto& [cell, token] : lists[other]) ++holders[cell];
      ASSERT_EQ(tree.cells(), static_cast<int64_t>(holders.size())) << "seed " << seed << ", step " << step;
      for (size_t other = 0; other < kPaths; ++other) {
        if (!open[other]) continue;
        std::vector<Token> tokens;
        int32_t alone = 0;
        for (const auto& [cell, token] : lists[other]) {
          tokens.push_back(token);
          alone += holders[cell] == 1 ? 1 : 0;
        }
        ASSERT_EQ(tree.tokens(static_cast<int>(other)), tokens);
        ASSERT_EQ(tree.Exclusive(static_cast<int>(other)), alone) << "seed " << seed << ", step " << step;
      }
    }
  }
}

// ---------------------------------------------------------------- fairness

TEST(Fair, AHeavyKeyDoesNotStarveALightOne) {
  std::mt19937 random(3);
  Fair fair(0.25);
  std::map<std::string, double> served;
  uint64_t id = 0;
  std::map<uint64_t, std::pair<std::string, double>> costs;
  const auto push = [&](const std::string& key, double cost) {
    costs[++id] = {key, cost};
    fair.Push(key, {id, 0, cost});
  };
  for (int i = 0; i < 400; ++i) push("heavy", 0.5 + 0.01 * (i % 7));
  for (int i = 0; i < 60; ++i) push("light", 0.2);
  for (int i = 0; i < 60; ++i) push("other", 0.3);
  fair.SetWeight("other", 2);
  for (int i = 0; i < 100; ++i) {
    const auto next = fair.Pop([](uint64_t) { return true; });
    ASSERT_TRUE(next);
    served[costs[*next].first] += costs[*next].second;
  }
  // Equal shares in cost, twice for a weight of two; within a round and one request (Shreedhar and Varghese
  // 1995, theorem 2).
  EXPECT_NEAR(served["heavy"], served["light"], 0.25 + 0.6 + 0.2);
  EXPECT_NEAR(served["other"], 2 * served["light"], 1.5);
}

TEST(Fair, SomeAreLeftOut) {
  Fair fair;
  for (uint64_t id = 1; id <= 40; ++id) fair.Push("a", {id, 0, 0.1});
  // Those that are left out cost no question: the last of a long queue is found.
  int asked = 0;
  const auto newest = fair.Pop([&](uint64_t) { return ++asked > 0; }, [](uint64_t id) { return id == 40; });
  EXPECT_EQ(newest, std::optional<uint64_t>(40));
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(fair.Pop([](uint64_t) { return true; }), std::optional<uint64_t>(1));
  EXPECT_EQ(fair.Pop([](uint64_t) { return true; }, [](uint64_t) { return false; }), std::nullopt);
  EXPECT_EQ(fair.size(), 38U);
}

// ---------------------------------------------------------------- deadlines

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

TEST(Fair, PrioritiesPlacesAndDebts) {
  Fair fair;
  fair.Push("a", {1, 0, 0.1});
  fair.Push("a", {2, 0, 0.1});
  fair.Push("b", {3, 1, 9.0});
  EXPECT_EQ(fair.Pop([](uint64_t) { return true; }), 3U);        // priority first
  EXPECT_EQ(fair.Pop([](uint64_t id) { return id != 1; }), 2U);  // one that cannot begin is passed over
  EXPECT_EQ(fair.Pop([](uint64_t) { return false; }), std::nullopt);
  fair.PushFront("a", {4, 0, 0.1});
  EXPECT_EQ(fair.Pop([](uint64_t) { return true; }), 4U);
  EXPECT_TRUE(fair.Remove("a", 1));
  EXPECT_FALSE(fair.Remove("a", 1));
  EXPECT_TRUE(fair.empty());
  fair.Push("a", {5, 0, 1});
  fair.Push("b", {6, 0, 1});
  fair.Charge("a", 4.0);  // a used more than it said
  EXPECT_EQ(fair.Pop([](uint64_t) { return true; }), 6U);
  EXPECT_EQ(fair.Pop([](uint64_t) { return true; }), 5U);  // alone, it never waits
}

// ---------------------------------------------------------------- speculation

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

// ---------------------------------------------------------------- text

TEST(TextOut, HoldsBackHalfCharactersAndHalfStops) {
  TextOut out({"STOP", "</end>"});
  EXPECT_EQ(out.Add("caf\xC3"), "caf");
  EXPECT_EQ(out.Add("\xA9 "), "\xC3\xA9 ");
  EXPECT_EQ(out.Add("ST"), "");
  EXPECT_EQ(out.Add("AR"), "STAR");
  EXPECT_EQ(out.Add("a</e"), "a");
  EXPECT_EQ(out.Add("nd>b"), "");
  EXPECT_TRUE(out.stopped());
  EXPECT_EQ(out.stop(), "</end>");
  TextOut turn({"STOP"}, {"<end>"});
  EXPECT_EQ(turn.Add("\"a<e", false), "\"a");
  EXPECT_EQ(turn.Add("nd>b", false), "<end>b");  // quoted: text like any other
  EXPECT_FALSE(turn.turn_ended());
  EXPECT_EQ(turn.Add("\" <end", true), "\" ");
  EXPECT_EQ(turn.Add("> more", true), "");
  EXPECT_TRUE(turn.turn_ended());
  EXPECT_FALSE(turn.stopped());
  EXPECT_EQ(turn.Add("more") + turn.Finish(), "");
  TextOut bad({});
  EXPECT_EQ(bad.Add("a\xFF\xC3"), "a\xEF\xBF\xBD");
  EXPECT_EQ(bad.Finish(), "\xEF\xBF\xBD");
  // However a text is cut into pieces, the same is shown.
  std::mt19937 random(1);
  const std::string whole = "x\xE2\x82\xAC y STO \xF0\x9F\x98\x80 STOz </en STOP never";
  for (int round = 0; round < 500; ++round) {
    TextOut cut({"STOP", "</end>"});
    std::string shown;
    for (size_t at = 0; at < whole.size() && !cut.stopped();) {
      const size_t n = std::min<size_t>(1 + random() % 5, whole.size() - at);
      const std::string piece = cut.Add(whole.substr(at, n));
      EXPECT_EQ(CleanUtf8(piece), piece);
      shown += piece;
      at += n;
    }
    EXPECT_EQ(shown, "x\xE2\x82\xAC y STO \xF0\x9F\x98\x80 STOz </en ");
  }
}

}  // namespace
}  // namespace headrace::engine
