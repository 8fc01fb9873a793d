// The pure policies: orders, steps, mixtures, weights, packing, states.
#include "stream/order.h"

#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "stream/mixture.h"
#include "stream/packing.h"
#include "stream/sequence.h"
#include "stream/state.h"
#include "stream/steps.h"
#include "stream/weighted.h"
#include "testing.h"

namespace headrace::stream {
namespace {

TEST(Permutation, IsABijectionWithItsInverse) {
  std::mt19937_64 random(1);
  for (int64_t n = 1; n < 300; ++n) {
    const Permutation permutation(n, random());
    std::vector<bool> seen(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
      const int64_t image = permutation(i);
      ASSERT_TRUE(image >= 0 && image < n && !seen[static_cast<size_t>(image)]) << n;
      seen[static_cast<size_t>(image)] = true;
      ASSERT_EQ(permutation.Inverse(image), i);
    }
  }
  for (const int64_t n : {int64_t{1} << 40, (int64_t{1} << 40) + 1, (int64_t{1} << 62) - 5}) {
    const Permutation permutation(n, 5);
    for (int i = 0; i < 1000; ++i) {
      const auto x = static_cast<int64_t>(random() % static_cast<uint64_t>(n));
      const int64_t image = permutation(x);
      ASSERT_TRUE(image >= 0 && image < n);
      ASSERT_EQ(permutation.Inverse(image), x);
    }
  }
}

// All permutations of a few things come equally often: chi-square, at about 5 standard deviations.
TEST(Permutation, SmallOnesAreUniform) {
  for (const int64_t n : {2, 3, 4, 5}) {
    int64_t count = 1;
    for (int64_t i = 2; i <= n; ++i) count *= i;
    std::map<std::vector<int64_t>, int> seen;
    const int trials = static_cast<int>(count) * 400;
    for (int t = 0; t < trials; ++t) {
      const Permutation permutation(n, Derive(99, static_cast<uint64_t>(t)));
      std::vector<int64_t> images;
      for (int64_t i = 0; i < n; ++i) images.push_back(permutation(i));
      seen[images] += 1;
    }
    double chi = 0;
    for (const auto& [images, times] : seen) chi += (times - 400.0) * (times - 400.0) / 400;
    chi += 400.0 * static_cast<double>(count - static_cast<int64_t>(seen.size()));
    const auto freedom = static_cast<double>(count - 1);
    EXPECT_LT(chi, freedom + 5 * std::sqrt(2 * freedom)) << n;
  }
}

// docs/format/order.md prints these: another implementation must give the same.
TEST(Vectors, OfTheSpecification) {
  EXPECT_EQ(Mix(1), 0x5692161d100b05e5ULL);
  EXPECT_EQ(Derive(17, 0), 0x0820337f8debffbeULL);
  std::vector<int64_t> images;
  const Permutation permutation(10, 17);
  for (int64_t i = 0; i < 10; ++i) images.push_back(permutation(i));
  EXPECT_EQ(images, (std::vector<int64_t>{7, 4, 0, 1, 9, 8, 6, 5, 2, 3}));
  EXPECT_EQ(Permutation(1'000'000'007, 17)(123'456), 111'712'119);
  std::vector<int64_t> ordinals;
  const EpochOrder order({100, 3, 4, 20, true}, 17, 0);
  for (int64_t p = 0; p < 12; ++p) ordinals.push_back(order.Ordinal(p));
  EXPECT_EQ(ordinals, (std::vector<int64_t>{13, 37, 2, 89, 12, 36, 40, 69, 14, 3, 0, 81}));
  EXPECT_EQ(EpochOrder({1'000'000, 10, 48, 262'176, true}, 17, 3).Ordinal(654'321), 904'262);
  Draws draws(17);
  EXPECT_EQ(draws.Next(), 0x808475f02ee37363ULL);
}

Layout RandomLayout(std::mt19937_64* random, int64_t most) {
  const auto upto = [&](int64_t n) { return static_cast<int64_t>((*random)() % static_cast<uint64_t>(n)); };
  Layout layout;
  layout.rows = 1 + upto(most);
  layout.block = 1 + upto(20);
  layout.lanes = 1 + upto(50);
  layout.window = upto(3) == 0 ? 0 : layout.lanes * (1 + upto(12));
  return layout;
}

TEST(Order, EveryRowOnceAnEpoch) {
  std::mt19937_64 random(2);
  for (int i = 0; i < testing::Scaled(2000); ++i) {
    const Layout layout = RandomLayout(&random, 700);
    const EpochOrder order(layout, random(), static_cast<int64_t>(random() % 5));
    std::vector<bool> seen(static_cast<size_t>(layout.rows));
    for (int64_t p = 0; p < layout.rows; ++p) {
      const int64_t ordinal = order.Ordinal(p);
      ASSERT_TRUE(ordinal >= 0 && ordinal < layout.rows && !seen[static_cast<size_t>(ordinal)])
          << layout.rows << " rows, block " << layout.block << ", lanes " << layout.lanes << ", window "
          << layout.window << " at " << p;
      seen[static_cast<size_t>(ordinal)] = true;
    }
  }
}

// Machines that fetch whole blocks, each its own ranks' only: what is fetched twice.
TEST(Order, MachinesTouchTheirOwnBlocks) {
  for (const int world : {1, 2, 3, 4, 6, 8, 12, 16, 48}) {
    LayoutHints hints;
    hints.rows = 300'000;
    hints.media_bytes = 96'000;
    hints.local = false;
    hints.world = world;
    const Layout layout = ChooseLayout(hints);
    ASSERT_GT(layout.block, 1);
    ASSERT_EQ(layout.lanes % world, 0);
    const EpochOrder order(layout, 3, 0);
    std::vector<std::set<int64_t>> touched(static_cast<size_t>(world));
    for (int64_t p = 0; p < layout.rows; ++p)
      touched[static_cast<size_t>(p % world)].insert(order.Ordinal(p) / layout.block);
    double blocks = 0;
    for (const auto& mine : touched) blocks += static_cast<double>(mine.size());
    const int64_t all = (layout.rows + layout.block - 1) / layout.block;
    EXPECT_LE(blocks / static_cast<double>(all), 1.05) << world;
  }
}

TEST(Order, LocalTablesAreFullyPermuted) {
  LayoutHints hints;
  hints.rows = 5000;
  hints.page_bytes = 100;
  for (const int world : {1, 5, 64}) {
    hints.world = world;
    EXPECT_EQ(ChooseLayout(hints), (Layout{5000, 1, 1, 0, true})) << "the same for every world";
  }
  // One row below, at and above what pages may take.
  hints.page_bytes = 512;
  for (const int64_t over : {-1, 0, 1}) {
    hints.rows = kResidentPageBytes / 512 + over;
    for (const int world : {1, 3, 16, 48}) {
      hints.world = world;
      EXPECT_EQ(ChooseLayout(hints).block == 1, over <= 0) << over;
      LayoutHints alone = hints;
      alone.world = 1;
      EXPECT_EQ(ChooseLayout(hints), ChooseLayout(alone)) << "the same for every world size that divides 48";
    }
  }
  hints.rows = 5000;
  hints.page_bytes = 100;
  hints.shuffle = false;
  const EpochOrder in_order(ChooseLayout(hints), 1, 7);
  EXPECT_EQ(in_order.Ordinal(4321), 4321);
  hints.shuffle = true;
  hints.page_bytes = 1e6;  // pages that do not fit in memory: whole pages
  hints.rows = 100'000'000;
  const Layout paged = ChooseLayout(hints);
  EXPECT_EQ(paged.block, 2048);
  EXPECT_EQ(paged.window % paged.lanes, 0);
}

// Any world, any number of interruptions with a change of the world: one sequence.
TEST(Steps, OneSequenceForEveryWorld) {
  std::mt19937_64 random(3);
  for (int trial = 0; trial < testing::Scaled(300); ++trial) {
    const int64_t n = 1 + static_cast<int64_t>(random() % 400);
    Point at;
    std::vector<int64_t> sequence;
    for (;;) {
      const int world = 1 + static_cast<int>(random() % 9);
      const int64_t batch = 1 + static_cast<int64_t>(random() % 7);
      const auto end = random() % 2 == 0 ? EpochEnd::kPad : EpochEnd::kShort;
      std::vector<int64_t> step_positions;
      std::optional<Point> after;
      bool over = false;
      for (int rank = 0; rank < world; ++rank) {
        const auto step = StepAt({batch, rank, world, end}, at, n);
        if (!step) {
          over = true;
          continue;
        }
        ASSERT_FALSE(over) << "ranks disagree on the end";
        ASSERT_LE(static_cast<int64_t>(step->points.size()), batch);
        ASSERT_TRUE(!after || *after == step->after);
        after = step->after;
        for (const auto& point : step->points) step_positions.push_back(point.position);
      }
      if (over) break;
      std::sort(step_positions.begin(), step_positions.end());
      sequence.insert(sequence.end(), step_positions.begin(), step_positions.end());
      at = *after;
    }
    ASSERT_EQ(static_cast<int64_t>(sequence.size()), n);
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(sequence[static_cast<size_t>(i)], i);
  }
  EXPECT_FALSE(StepAt({4, 0, 2, EpochEnd::kDrop}, {0, 8}, 15));
  const auto wrapped = StepAt({4, 1, 2, EpochEnd::kWrap}, {0, 8}, 11);
  ASSERT_TRUE(wrapped);
  EXPECT_EQ(wrapped->after, (Point{1, 5}));
  EXPECT_EQ(wrapped->points[2], (Point{1, 2}));
  EXPECT_EQ(StepsLeft({4, 0, 2, EpochEnd::kPad}, 0, 17), 3);
  EXPECT_EQ(StepsLeft({4, 0, 2, EpochEnd::kDrop}, 0, 17), 2);
}

TEST(Mixture, EveryPrefixIsNearItsShare) {
  std::mt19937_64 random(4);
  for (int trial = 0; trial < testing::Scaled(200); ++trial) {
    std::vector<double> weights;
    for (uint64_t i = 0; i < 1 + random() % 8; ++i) weights.push_back(static_cast<double>(1 + random() % 40));
    ASSERT_VALUE(const Pattern pattern, Pattern::FromWeights(weights));
    std::vector<int64_t> counts(weights.size());
    for (int64_t p = 0; p < 3 * pattern.cycle(); ++p) {
      for (size_t i = 0; i < counts.size(); ++i) {
        ASSERT_EQ(pattern.Count(static_cast<int>(i), p), counts[i]);
        const double ideal = static_cast<double>(pattern.quota()[i]) * static_cast<double>(p) /
                             static_cast<double>(pattern.cycle());
        ASSERT_LT(std::fabs(ideal - static_cast<double>(counts[i])), 1.0);
      }
      const auto source = static_cast<size_t>(pattern.source(p));
      ASSERT_EQ(pattern.PositionOf(static_cast<int>(source), counts[source]), p);
      counts[source] += 1;
    }
  }
}

TEST(Mixture, StagesAndExhaustion) {
  ASSERT_VALUE(const Mixture staged,
               Mixture::Make({{0, {1, 1}}, {95, {1, 3}}}, {40, 1000}, Exhaust::kRepeat));
  std::vector<int64_t> counts(2);
  for (int64_t p = 0; p < 3000; ++p) {
    const auto place = staged.At(p);
    auto& count = counts[static_cast<size_t>(place.source)];
    ASSERT_EQ(place.pass * staged.rows()[static_cast<size_t>(place.source)] + place.index, count) << p;
    count += 1;
    EXPECT_TRUE(p != 95 || counts[0] == 48);  // the first stage ends at the next edge of a cycle: 96
  }
  EXPECT_EQ(counts[0], 48 + (3000 - 96) / 4);
  EXPECT_FALSE(staged.length());
  ASSERT_VALUE(const Mixture first, Mixture::Make({{0, {1, 3}}}, {10, 60}, Exhaust::kStopAtFirst));
  ASSERT_VALUE(const Mixture last, Mixture::Make({{0, {1, 3}}}, {10, 60}, Exhaust::kStopAtLast));
  ASSERT_TRUE(first.length() && last.length());
  for (const auto* mixture : {&first, &last}) {
    std::vector<int64_t> passes{0, 0};
    std::vector<std::set<int64_t>> seen(2);
    for (int64_t p = 0; p < *mixture->length(); ++p) {
      const auto place = mixture->At(p);
      auto& pass = passes[static_cast<size_t>(place.source)];
      pass = std::max(pass, place.pass);
      if (place.pass == 0) seen[static_cast<size_t>(place.source)].insert(place.index);
    }
    if (mixture == &first) {
      EXPECT_EQ(passes, (std::vector<int64_t>{0, 0}));
      EXPECT_EQ(seen[0].size(), 10U);
    } else {
      EXPECT_EQ(seen[0].size(), 10U);
      EXPECT_EQ(seen[1].size(), 60U);
      EXPECT_EQ(passes[1], 0);
    }
  }
  EXPECT_TRUE(Mixture::Make({{0, {0, 0}}}, {1, 1}, Exhaust::kRepeat).status().Is(Code::kInvalid));
  EXPECT_TRUE(Mixture::Make({{0, {1, -1}}}, {1, 1}, Exhaust::kRepeat).status().Is(Code::kInvalid));
}

TEST(Weighted, ComesInProportion) {
  std::mt19937_64 random(5);
  std::vector<double> weights;
  for (int i = 0; i < 300; ++i) weights.push_back(static_cast<double>(random() % 10));
  ASSERT_VALUE(const auto cumulative, CumulativeWeights(weights));
  const int64_t draws = 5000;
  const WeightedOrder order(&cumulative, draws, 17, 0);
  std::vector<int64_t> counts(weights.size());
  double lag = 0;
  for (int64_t p = 0; p < draws; ++p) {
    counts[static_cast<size_t>(order.Ordinal(p))] += 1;
    if (p > 0) lag += static_cast<double>(std::abs(order.Ordinal(p) - order.Ordinal(p - 1)));
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    const double expected = weights[i] / cumulative.back() * static_cast<double>(draws);
    EXPECT_LE(std::fabs(expected - static_cast<double>(counts[i])), 1.0) << i;
  }
  EXPECT_GT(lag / static_cast<double>(draws), 80);  // neighbours in time are far apart in the table
  EXPECT_TRUE(CumulativeWeights({1, std::nan("")}).status().Is(Code::kInvalid));
  EXPECT_TRUE(CumulativeWeights({0, 0}).status().Is(Code::kInvalid));
}

TEST(Packing, EveryTokenOnceAndLittleWaste) {
  std::mt19937_64 random(6);
  for (int trial = 0; trial < testing::Scaled(100); ++trial) {
    std::vector<int64_t> lengths;
    for (int i = 0; i < 500; ++i) lengths.push_back(static_cast<int64_t>(random() % (trial % 2 ? 300 : 90)));
    const int64_t length = 128;
    const PackPlan plan = PlanPacking(lengths, length, false, random());
    std::vector<std::map<int64_t, int64_t>> covered(lengths.size());
    int64_t tokens = 0;
    for (const auto& row : plan.rows) {
      int64_t used = 0;
      ASSERT_FALSE(row.empty());
      for (const Piece& piece : row) {
        used += piece.length;
        ASSERT_GT(piece.length, 0);
        covered[static_cast<size_t>(piece.document)][piece.begin] = piece.length;
      }
      ASSERT_LE(used, length);
      tokens += used;
    }
    for (size_t d = 0; d < lengths.size(); ++d) {
      int64_t at = 0;
      for (const auto& [begin, size] : covered[d]) {
        ASSERT_EQ(begin, at);
        at += size;
      }
      ASSERT_EQ(at, lengths[d]);
    }
    EXPECT_EQ(tokens, plan.tokens);
    EXPECT_GT(
        static_cast<double>(tokens) / static_cast<double>(static_cast<int64_t>(plan.rows.size()) * length),
        0.9);
  }
  const PackPlan cut = PlanPacking({300, 10}, 128, true, 1);
  EXPECT_EQ(cut.tokens, 138);
  EXPECT_EQ(cut.dropped, 172);
  EXPECT_TRUE(PlanPacking({0, 0}, 128, false, 1).rows.empty());
}

TEST(State, IsSmallAndRefusesNonsense) {
  State state;
  state.seed = UINT64_MAX;
  state.point = {1'000'000, int64_t{1} << 50};
  state.sources = {{99'999'999, UINT32_MAX, {int64_t{1} << 50, 2048, 6720, int64_t{1} << 42, true}}};
  state.sources[0].layout.window = state.sources[0].layout.lanes * (int64_t{1} << 30);
  const std::string json = state.ToJson();
  EXPECT_LT(json.size(), 200U) << json;
  ASSERT_VALUE(const State back, State::FromJson(json));
  EXPECT_EQ(back, state);
  for (const char* wrong : {"", "[]", "{}", "{\"headrace\": 1}", "{\"headrace\": 2}",
                            R"({"headrace":1,"seed":1,"epoch":-1,"position":0,"sources":[[1,1,1,1,1,0]]})",
                            R"({"headrace":1,"seed":1,"epoch":0,"position":0,"sources":[[1,1,0,1,1,0]]})",
                            R"({"headrace":1,"seed":1,"epoch":0,"position":0,"sources":[[1,1,9,1,4,7]]})"}) {
    EXPECT_FALSE(State::FromJson(wrong).ok()) << wrong;
  }
}

// A label-sorted table at a distant store's layout: labels look as after a full permutation.
TEST(Order, ASortedTableComesOutMixed) {
  LayoutHints hints;
  hints.rows = 600'000;
  hints.media_bytes = 96'000;
  hints.local = false;
  const Layout layout = ChooseLayout(hints);
  ASSERT_EQ(layout, (Layout{600'000, 10, 48, 300'000, true}));
  const EpochOrder order(layout, 3, 0);
  constexpr int64_t kClasses = 1000;
  std::vector<double> labels;
  for (int64_t p = 0; p < layout.rows; ++p) {
    const int64_t label = order.Ordinal(p) * kClasses / layout.rows;
    labels.push_back(static_cast<double>(label));
  }
  const double mean = (kClasses - 1) / 2.0;
  double variance = 0;
  for (const double l : labels) variance += (l - mean) * (l - mean);
  const double noise = 1 / std::sqrt(static_cast<double>(labels.size()));
  for (const size_t lag : {1UL, 2UL, 7UL, 47UL, 48UL, 49UL, 96UL, 480UL, 1000UL, 4800UL}) {
    double sum = 0;
    for (size_t i = lag; i < labels.size(); ++i) sum += (labels[i] - mean) * (labels[i - lag] - mean);
    EXPECT_LT(std::fabs(sum / variance), 5 * noise) << "lag " << lag;
  }
  // Distinct classes per 1,000 samples: 1000 · (1 − (1 − 1/1000)^1000) = 632 on average.
  double distinct = 0;
  for (size_t begin = 0; begin + 1000 <= labels.size(); begin += 1000) {
    distinct += static_cast<double>(std::set<double>(labels.begin() + static_cast<int64_t>(begin),
                                                     labels.begin() + static_cast<int64_t>(begin) + 1000)
                                        .size());
  }
  EXPECT_NEAR(distinct / 600, 632.3, 4);
}

}  // namespace
}  // namespace headrace::stream
