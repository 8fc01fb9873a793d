// Step costs, and what a step computes.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "base/json.h"
#include "engine/schedule.h"

namespace headrace::engine {
namespace {

// ---------------------------------------------------------------- schedule and costs

double Truth(const StepShape& s) {
  return (s.rows == 1 ? 0.024 : 0.02 + 0.0025 * s.rows) + 4e-8 * static_cast<double>(s.attended);
}

TEST(CostTable, LearnsWhatStepsTake) {
  CostTable costs(2, 0.001);  // a guess that is far off
  std::mt19937 random(1);
  for (int i = 0; i < 600; ++i) {
    StepShape s{static_cast<int32_t>(1 + random() % 512), 1, static_cast<int64_t>(random() % 100'000)};
    costs.Observe(s, 2, Truth(s) * (0.95 + 0.1 * std::uniform_real_distribution<>()(random)));
  }
  for (const int rows : {3, 8, 30, 64, 100, 200, 300, 500})
    EXPECT_NEAR(costs.Predict({rows, 1, 0}, 2) / Truth({rows, 1, 0}), 1, 0.25) << rows;
  const int32_t fits = costs.RowsWithin({4, 4, 400}, 1000, 0.3, 16, 512, 2);
  EXPECT_NEAR(Truth({4 + fits, 4, 400 + fits * 1000}), 0.3, 0.06);
  EXPECT_EQ(costs.RowsWithin({4, 4, 400}, 1000, 0.0, 16, 512, 2), 16);  // always some
}

// What one run measured the next one begins with: steps, what was guessed from them, attention, and whether
// decodes ride along.
TEST(CostTable, IsKeptBetweenRuns) {
  CostTable costs(2, 0.02);
  for (int prompt = 0; prompt < 6; ++prompt)
    for (int64_t at = 0; at < 4096; at += 256) {
      costs.Observe({256, 0, at * 256}, 2, 0.6 + 6e-7 * static_cast<double>(at) * 256);
      costs.Observe({4, 4, 400}, 2, 0.05);
      costs.Observe({260, 4, at * 256 + 400, 4}, 2, 0.7 + 6e-7 * static_cast<double>(at) * 256);
    }
  CostTable again(2, 1);
  ASSERT_TRUE(again.FromJson(costs.ToJson()).ok());
  for (const StepShape& shape :
       {StepShape{100, 1, 0}, {500, 1, 0}, {256, 0, 1'000'000}, {260, 4, 500'000, 4}})
    EXPECT_DOUBLE_EQ(again.Predict(shape, 2), costs.Predict(shape, 2)) << shape.rows;
  // Figures that were stored count as one observation: one more, and they are chosen by.
  const StepShape decoding{4, 4, 400};
  EXPECT_TRUE(costs.ChooseAlternate(decoding, 2, false).alternate);
  EXPECT_FALSE(again.ChooseAlternate(decoding, 2, false).counts);
  again.Observe({256, 0, 0}, 2, 0.6);
  again.Observe({260, 4, 400, 4}, 2, 0.7);
  EXPECT_TRUE(again.ChooseAlternate(decoding, 2, false).alternate);
  EXPECT_NE(again.PredictDecoding(4, 2), CostTable(2, 1).PredictDecoding(4, 2));
}

// Files that are cut off, of another kind or number of threads, or hold what no step takes: nothing of them
// is used.
TEST(CostTable, DamagedFilesAreRefused) {
  CostTable costs(2, 0.02);
  costs.Observe({256, 0, 0}, 2, 0.6);
  const nlohmann::json good = nlohmann::json::parse(costs.ToJson());
  const std::vector<std::pair<const char*, nlohmann::json>> wrongs = {
      {"/version", 2},        {"/version", "3"},           {"/threads", 1},
      {"/tables", 5},         {"/tables", {1, 2}},         {"/tables/1", nlohmann::json::array()},
      {"/tables/0/3", 5},     {"/tables/0/3/seconds", 0},  {"/tables/0/3/seconds", 3600},
      {"/decoding", nullptr}, {"/tables/0/3/seconds", ""}, {"/piggybacked/0/seconds", -0.5},
      {"/piggybacked", 1},    {"/attended_seconds", 1},    {"/attended_seconds", "x"}};
  CostTable again(2, 1);
  const std::string before = again.ToJson();
  for (const auto& [place, value] : wrongs) {
    nlohmann::json bad = good;
    bad[nlohmann::json::json_pointer(place)] = value;
    EXPECT_FALSE(again.FromJson(bad.dump()).ok()) << place << " = " << value;
    EXPECT_EQ(again.ToJson(), before) << place;
  }
  for (const char* bad : {"", "{}", "[]", "{"}) EXPECT_FALSE(again.FromJson(bad).ok()) << bad;
  EXPECT_TRUE(again.FromJson(good.dump()).ok());
}

TEST(CostTable, LearnsWhatAttentionTakes) {
  CostTable costs(2, 0.02);
  std::mt19937 random(3);
  const auto truth = [](const StepShape& s) {
    return 0.003 * s.rows + 6e-7 * static_cast<double>(s.attended);
  };
  for (int prompt = 0; prompt < 6; ++prompt)
    for (int64_t at = 0; at < 4096; at += 256) {
      const StepShape s{256, 0, at * 256 + 256 * 128};
      costs.Observe(s, 2, truth(s) * (0.92 + 0.16 * std::uniform_real_distribution<>()(random)));
      costs.Observe({4, 4, 400}, 2, 0.05);
    }
  for (const int64_t attended : {32'768LL, 500'000LL, 1'000'000LL})
    EXPECT_NEAR(costs.Predict({256, 0, attended}, 2) / truth({256, 0, attended}), 1, 0.12) << attended;
}

// Decodes that piggyback cost a chunk more than a step of their own: the two alternate; and the other way
// round.
TEST(CostTable, FindsWhetherDecodersRideAlong) {
  for (const double beside : {0.002, 0.08}) {
    CostTable costs(2, 0.02);
    int alternating = 0;
    for (int i = 0; i < 200; ++i) {
      const StepShape decoding{4, 4, 400};
      const CostTable::Alternation choice = costs.ChooseAlternate(decoding, 2, true);
      EXPECT_EQ(costs.ChooseAlternate(decoding, 2, true).alternate,
                choice.alternate);  // asking changes nothing
      costs.Chose(decoding, choice);
      if (choice.alternate) {
        ++alternating;
        costs.Observe(decoding, 2, 0.04);
        costs.Observe({256, 0, 50'000}, 2, 0.6);
      } else {
        costs.Observe({260, 4, 50'400, 4}, 2, 0.6 + beside);
        if (i % 20 == 0) costs.Observe({256, 0, 50'000}, 2, 0.6);  // nobody decodes
        if (i % 20 == 1) costs.Observe(decoding, 2, 0.04);         // nobody prefills
      }
    }
    if (beside > 0.04) {
      EXPECT_GT(alternating, 150);
      EXPECT_LT(alternating, 200);  // it goes on trying
    } else {
      EXPECT_LT(alternating, 30);
    }
    EXPECT_NEAR(costs.Predict({260, 4, 50'400, 4}, 2), 0.6 + beside, 0.02);
    EXPECT_NEAR(costs.Predict({256, 0, 50'000}, 2), 0.6, 0.02);
  }
}

TEST(CostTable, FindsTheBetterNumberOfThreads) {
  CostTable costs(2, 0.02);
  int ones = 0;
  for (int i = 0; i < 400; ++i) {  // somebody holds the second core: two threads are ten times slower
    const int threads = costs.ChooseThreads({1, 1, 0});
    costs.Observe({1, 1, 0}, threads, threads == 1 ? 0.03 : 0.3);
    ones += threads == 1 ? 1 : 0;
  }
  EXPECT_GT(ones, 380);
  int twos = 0;
  for (int i = 0; i < 1000; ++i) {  // it went away
    const int threads = costs.ChooseThreads({1, 1, 0});
    costs.Observe({1, 1, 0}, threads, threads == 1 ? 0.03 : 0.02);
    if (i >= 700) twos += threads == 2 ? 1 : 0;
  }
  EXPECT_GT(twos, 250);
}

TEST(Schedule, DecodersFirstThenPrefillInTheTimeLeft) {
  CostTable costs(2, 0.02);
  std::mt19937 random(1);
  for (int i = 0; i < 400; ++i) {
    StepShape s{static_cast<int32_t>(1 + random() % 512), 1, 0};
    costs.Observe(s, 2, Truth(s));
  }
  ScheduleLimits limits;
  limits.max_gap = 0.3;
  std::vector<Candidate> work = {
      {0, -1, 1, 0, 50, 0.1}, {1, -1, 1, 0, 80, 0.2}, {2, -1, 0, 4000, 0, 0.5}, {3, -1, 0, 10, 0, 0.4}};
  auto plan = Schedule(work, -1, limits, costs, 2);
  ASSERT_GE(plan.size(), 3U);
  EXPECT_EQ(plan[0].rows + plan[1].rows, 2);
  EXPECT_EQ(plan[2].slot, 2);  // who has waited longest
  int32_t rows = 0;
  for (const Scheduled& scheduled : plan) rows += scheduled.rows;
  EXPECT_LE(Truth({rows, 3, 0}), 0.36);
  EXPECT_EQ(plan[0].rows + plan[1].rows + plan[2].rows, 64);  // a whole tile
  work.resize(2);
  work.push_back({2, 5, 0, 4000, 0, 9});
  plan = Schedule(work, -1, limits, costs, 2);
  EXPECT_EQ(plan.size(), 2U);  // another adapter's turn comes later
  work = {{0, -1, 0, 4000, 0, 0.1}};
  EXPECT_EQ(Schedule(work, -1, limits, costs, 2)[0].rows, 512);  // nobody watches
  limits.grid = 128;
  work = {{0, -1, 0, 4000, 100, 0.1}, {1, -1, 1, 0, 10, 0.05}};
  plan = Schedule(work, -1, limits, costs, 2);
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].rows, 28);  // to the next multiple
}

// Alternating: steps of decodes and steps of prefill take turns, and no request is left behind.
TEST(Schedule, DecodersAndChunksTakeTurns) {
  const CostTable costs(2, 0.02);
  ScheduleLimits limits;
  limits.alternate = true;
  std::map<int, int> steps;
  std::map<int, double> last;
  double now = 0;
  int mixed = 0;
  for (int i = 0; i < 60; ++i) {
    std::vector<Candidate> work;
    for (int slot = 0; slot < 5; ++slot) {
      Candidate w;
      w.slot = slot;
      w.position = 100;
      w.waited = now - last[slot];
      (slot < 3 ? w.decode_rows : w.prefill_left) = slot < 3 ? 1 : 100'000;
      work.push_back(w);
    }
    const auto plan = Schedule(work, -1, limits, costs, 2);
    ASSERT_FALSE(plan.empty());
    bool decodes = false, prefills = false;
    for (const Scheduled& scheduled : plan) {
      (scheduled.slot < 3 ? decodes : prefills) = true;
      last[scheduled.slot] = now;
      ++steps[scheduled.slot];
    }
    mixed += decodes && prefills ? 1 : 0;
    now += decodes ? 0.05 : 0.6;
  }
  EXPECT_EQ(mixed, 0);
  for (int slot = 0; slot < 3; ++slot) EXPECT_NEAR(steps[slot], 30, 2) << slot;
  for (int slot = 3; slot < 5; ++slot) EXPECT_NEAR(steps[slot], 15, 2) << slot;  // the two share their turns
}

TEST(Schedule, AdaptersTakeTurns) {
  AdapterTurn turn(8);
  std::vector<Candidate> work = {{0, -1, 1, 0, 0, 0}, {1, 2, 1, 0, 0, 0}, {2, 5, 1, 0, 0, 0}};
  std::map<int, int> steps;
  int switches = 0, last = -2;
  for (int i = 0; i < 240; ++i) {
    const int now = turn.Next(work);
    switches += now != last ? 1 : 0;
    last = now;
    ++steps[now];
  }
  EXPECT_EQ(steps[-1], 80);
  EXPECT_EQ(steps[2], 80);
  EXPECT_EQ(switches, 30);
}

// With many users a step stays below an attention tile, and the prompt of a key that runs little alternates
// with the crowd.
TEST(Schedule, CrowdsStayBelowATileAndAlternateWithLightKeys) {
  const CostTable costs(2, 0.02);
  const ScheduleLimits limits;
  std::vector<Candidate> work;
  for (int slot = 0; slot < 24; ++slot) {
    Candidate w;
    w.slot = slot;
    w.decode_rows = 1;
    w.position = 100;
    w.key_running = 30;
    w.waited = 0.2;
    work.push_back(w);
  }
  Candidate crowd;  // of the same key
  crowd.slot = 24;
  crowd.prefill_left = 65;
  crowd.key_running = 30;
  crowd.waited = 0.5;
  work.push_back(crowd);
  const auto rows_of = [](const std::vector<Scheduled>& plan) {
    std::map<int, int32_t> rows;
    for (const Scheduled& scheduled : plan) rows[scheduled.slot] += scheduled.rows;
    return rows;
  };
  auto rows = rows_of(Schedule(work, -1, limits, costs, 2));
  EXPECT_EQ(rows.size(), 25U);
  EXPECT_EQ(rows[24], limits.machine.tile * 3 / 4 - 24);
  Candidate light;
  light.slot = 25;
  light.prefill_left = 170;
  light.key_running = 1;
  light.just_begun = true;
  work.push_back(light);
  rows = rows_of(Schedule(work, -1, limits, costs, 2));
  EXPECT_EQ(rows, (std::map<int, int32_t>{{25, limits.machine.tile - 1}}));  // at once, alone, below a tile
  work[25].just_begun = false;
  work[25].prefill_left = 107;
  work[25].waited = 0.01;
  const auto crowd_waits = [&](double seconds) {
    for (size_t slot = 0; slot < 24; ++slot) work[slot].waited = seconds;
  };
  const double step = costs.Predict(DecodingStep(work, -1), 2), chunk = costs.Predict({256, 0, 0}, 2);
  crowd_waits(step + 0.5 * chunk);  // its turn goes on
  EXPECT_EQ(rows_of(Schedule(work, -1, limits, costs, 2)),
            (std::map<int, int32_t>{{25, limits.machine.tile - 1}}));
  ScheduleLimits short_gaps;
  short_gaps.max_gap = 2 * step;  // --max-itl: one chunk a turn
  EXPECT_EQ(rows_of(Schedule(work, -1, short_gaps, costs, 2)).count(25), 0U);
  crowd_waits(step + 1.1 * chunk);  // now it is the crowd's
  rows = rows_of(Schedule(work, -1, limits, costs, 2));
  EXPECT_EQ(rows.count(25), 0U);
  EXPECT_EQ(rows.count(0), 1U);
  work[25].waited = step + 1.2 * chunk;
  EXPECT_EQ(rows_of(Schedule(work, -1, limits, costs, 2)).size(), 1U);
  crowd_waits(0.2);
  work[25].key_running = 30;  // a long prompt of the crowd's own: chunks of its own
  work[25].prefill_left = 4000;
  work[25].waited = 0.7;
  work[24].prefill_left = 0;
  work[24].decode_rows = 1;
  EXPECT_EQ(rows_of(Schedule(work, -1, limits, costs, 2)), (std::map<int, int32_t>{{25, 256}}));
  // Few decoders: as before.
  work.erase(work.begin() + 4, work.begin() + 24);
  EXPECT_EQ(rows_of(Schedule(work, -1, limits, costs, 2)).count(0), 1U);
}

// A crowd that has yet to prefill, nobody decodes: short steps all the same, and the light key's rows come
// first.
TEST(Schedule, ACrowdThatBeginsStaysBelowATile) {
  const CostTable costs(2, 0.02);
  const ScheduleLimits limits;
  std::vector<Candidate> beginning;
  for (int slot = 0; slot < 12; ++slot) {
    Candidate w;
    w.slot = slot;
    w.prefill_left = 70;
    w.key_running = slot == 11 ? 1 : 30;
    w.waited = 1 - 0.01 * slot;
    beginning.push_back(w);
  }
  EXPECT_EQ(Schedule(beginning, -1, limits, costs, 2).front().slot, 11);
  int32_t all = 0;
  for (const Scheduled& scheduled : Schedule(beginning, -1, limits, costs, 2)) all += scheduled.rows;
  EXPECT_EQ(all, limits.machine.tile - 1);
}

// Without tiles there is no crowd: decodes and prefill share the step, and rows are cut to no multiple.
TEST(Schedule, AMachineWithoutTilesHasNoCrowds) {
  const CostTable costs(2, 0.0002, MachineProfile::Gpu());
  ScheduleLimits limits;
  limits.machine = MachineProfile::Gpu();
  std::vector<Candidate> work;
  for (int slot = 0; slot < 24; ++slot) work.push_back({slot, -1, 1, 0, 100, 0.2});
  work.push_back({24, -1, 0, 4001, 0, 0.1});
  const auto plan = Schedule(work, -1, limits, costs, 2);
  ASSERT_EQ(plan.size(), 25U);
  EXPECT_EQ(plan[24].slot, 24);
  EXPECT_EQ(plan[24].rows, limits.max_rows - 24);
  limits.machine = MachineProfile::Cpu();
  EXPECT_EQ(Schedule(work, -1, limits, costs, 2).size(), 24U);  // there the long prompt waits for its turn
}

// Who joins is one question, how many rows each gets another.
TEST(Schedule, WhoJoinsDoesNotDependOnRows) {
  const CostTable costs(2, 0.02);
  ScheduleLimits limits;
  const std::vector<Candidate> work = {
      {0, -1, 5, 0, 50, 0.1}, {1, -1, 1, 0, 80, 0.2}, {2, -1, 0, 300, 0, 0.5}};
  const Joining joining = WhoJoins(work, -1, limits, costs, 2);
  ASSERT_EQ(joining.decoding.size(), 2U);
  EXPECT_EQ(joining.decoding[0]->slot, 1);  // it has waited longer
  ASSERT_EQ(joining.prefilling.size(), 1U);
  EXPECT_TRUE(joining.watched);
  EXPECT_EQ(joining.made_wait.rows, 0);
  Joining narrow = joining;
  narrow.max_rows = 4;  // one row each, then what is left of drafts; nothing for the prompt
  const auto plan = RowsOfEach(narrow, limits, costs, 2);
  ASSERT_EQ(plan.size(), 2U);
  EXPECT_EQ(plan[0].rows, 1);
  EXPECT_EQ(plan[1].rows, 3);
  limits.alternate = true;
  const Joining turn = WhoJoins(work, -1, limits, costs, 2);
  EXPECT_TRUE(turn.decoding.empty());  // the prompt has waited longer
  EXPECT_EQ(turn.made_wait.rows, 6);
}

}  // namespace
}  // namespace headrace::engine
