#include "trace/run_curves.h"

#include <cmath>
#include <random>
#include <set>
#include <tuple>

#include "trace/run_log.h"
#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

constexpr char kRun[] = "0123456789abcdef0123456789abcdef";
constexpr int64_t kBegan = 1'700'000'000'000'000;

struct Said {
  int64_t life, step, micros;
  double value;
};

// Those that the view `points` has.
std::vector<Said> Counted(const std::vector<Said>& points) {
  std::map<int64_t, int64_t> first;
  for (const Said& p : points) {
    const auto [life, is_new] = first.try_emplace(p.life, p.step);
    if (!is_new) life->second = std::min(life->second, p.step);
  }
  std::vector<Said> counted;
  for (const Said& p : points) {
    bool stands = true;
    for (const auto& [life, step] : first) stands = stands && !(life > p.life && p.step >= step);
    if (stands) counted.push_back(p);
  }
  return counted;
}

void ExpectSame(const Bucket& got, const Bucket& wanted) {
  ASSERT_EQ(got.n, wanted.n);
  ASSERT_EQ(got.nans, wanted.nans);
  ASSERT_EQ(got.plus, wanted.plus);
  ASSERT_EQ(got.minus, wanted.minus);
  if (got.n == 0) return;
  ASSERT_EQ(got.min, wanted.min);
  ASSERT_EQ(got.max, wanted.max);
  ASSERT_NEAR(got.sum, wanted.sum, 1e-6 * (1 + std::abs(wanted.sum)));
}

// Each value by itself, without Bucket::Add.
void Tell(double value, Bucket* bucket) {
  if (std::isnan(value)) ++bucket->nans;
  if (value == INFINITY) ++bucket->plus;
  if (value == -INFINITY) ++bucket->minus;
  if (!std::isfinite(value)) return;
  if (bucket->n == 0 || value < bucket->min) bucket->min = value;
  if (bucket->n == 0 || value > bucket->max) bucket->max = value;
  bucket->sum += value;
  ++bucket->n;
}

void ExpectBuckets(const Buckets& got, size_t most, const std::vector<std::pair<int64_t, double>>& points) {
  ASSERT_LE(got.all().size(), most);
  std::map<int64_t, Bucket> wanted;
  std::set<int64_t> finer;
  for (const auto& [at, value] : points) {
    Tell(value, &wanted[at >> got.shift()]);
    if (got.shift() > 0) finer.insert(at >> (got.shift() - 1));
  }
  if (got.shift() > 0) {
    EXPECT_GT(finer.size(), most);  // no coarser than they must be
  }
  ASSERT_EQ(got.all().size(), wanted.size());
  for (const auto& [index, bucket] : got.all()) ExpectSame(bucket, wanted[index]);
}

// Three lives with gaps, repeated and unordered steps; a part of it in the spool still.
void OneOf(uint64_t seed) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  ASSERT_OK(OpenOrCreate(catalog.get(), kMetrics).status());
  std::mt19937_64 random(seed);
  std::vector<Said> points;
  int64_t step = static_cast<int64_t>(random() % 100) - 50, micros = kBegan - 5'000'000;
  for (int64_t life = 1; life <= 3; ++life) {
    ASSERT_VALUE(auto log, RunLog::Open(SpoolRoot(*catalog), {.run = kRun, .life = life}));
    const int count = 1 + static_cast<int>(random() % 3000);
    for (int i = 0; i < count; ++i) {
      step += static_cast<int64_t>(random() % 6) - 1;
      micros += static_cast<int64_t>(random() % 3) * 1000;  // what float32 seconds can tell apart
      const auto odd = random() % 200;
      const double value = odd == 0   ? NAN
                           : odd == 1 ? INFINITY
                           : odd == 2 ? -INFINITY
                                      : std::sin(i) * 1e3 + static_cast<double>(random() % 10);
      ASSERT_OK(log->Log(step, micros, {{{"loss", value}, {"sys/cpu", value}}}));
      points.push_back({life, step, micros, value});
      if (random() % 2000 == 0) ASSERT_OK(CommitSpools(catalog).status());
    }
    step -= static_cast<int64_t>(random() % 500);
  }
  const auto counted = Counted(points);
  RunCurvesOptions options{.run = kRun, .keys = {}, .began = kBegan};
  ASSERT_VALUE(const RunCurves whole, ReadRunCurves(*catalog, options));
  ASSERT_EQ(whole.curves.size(), 2U);
  EXPECT_EQ(whole.curves[0].key, "loss");
  EXPECT_EQ(whole.curves[1].key, "sys/cpu");
  EXPECT_EQ(whole.curves[0].whole.size(), counted.size());
  EXPECT_EQ(whole.curves[1].points, static_cast<int64_t>(points.size()));  // all lives of it count
  EXPECT_EQ(whole.lives.at(0).size(), 3U);
  Bucket all;
  std::multiset<std::tuple<int64_t, int64_t, std::string>> got, wanted;
  for (const Said& p : counted) {
    Tell(p.value, &all);
    wanted.emplace(p.step, p.micros, std::to_string(p.value));
  }
  for (const CurvePoint& p : whole.curves[0].whole)
    got.emplace(p.step, (p.micros + 500) / 1000 * 1000, std::to_string(p.value));
  EXPECT_EQ(got, wanted);
  ExpectSame(whole.curves[0].facts, all);
  options.most_points = 0;
  options.most_buckets = 64 + static_cast<int64_t>(random() % 200);
  ASSERT_VALUE(const RunCurves buckets, ReadRunCurves(*catalog, options));
  std::vector<std::pair<int64_t, double>> by_step, by_time;
  for (const CurvePoint& p : whole.curves[0].whole) {
    by_step.emplace_back(p.step, p.value);
    by_time.emplace_back(p.micros - kBegan, p.value);
  }
  const RunCurve& curve = buckets.curves[0];
  ExpectSame(curve.facts, all);
  EXPECT_TRUE(curve.whole.empty());
  ExpectBuckets(curve.by_step, static_cast<size_t>(options.most_buckets), by_step);
  ExpectBuckets(curve.by_time, static_cast<size_t>(options.most_buckets), by_time);
}

TEST(RunCurves, EachBucketHasTheExtremesOfAllItsPoints) {
  for (uint64_t seed = 1; seed <= static_cast<uint64_t>(testing::Scaled(20)); ++seed) {
    SCOPED_TRACE(seed);
    OneOf(seed);
    if (HasFatalFailure()) return;
  }
}

TEST(RunCurves, StepsMayLieAnywhere) {
  std::mt19937_64 random(1);
  Buckets buckets(100);
  std::vector<std::pair<int64_t, double>> points;
  for (const int64_t step : {INT64_MIN, INT64_MAX, int64_t{0}, int64_t{-1}}) points.emplace_back(step, 1.0);
  for (int i = 0; i < 1000; ++i) points.emplace_back(static_cast<int64_t>(random()), i);
  for (const auto& [step, value] : points) buckets.Add(step, value);
  ExpectBuckets(buckets, 100, points);
  Buckets one(1);
  one.Add(INT64_MIN, 1);
  one.Add(-1, 2);
  EXPECT_EQ(one.shift(), 63);
  EXPECT_EQ(one.all().begin()->second.n, 2U);
}

TEST(RunCurves, WhatTheyTakeIsBounded) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  RunCurvesOptions options{.run = kRun, .keys = {}};
  ASSERT_VALUE(RunCurves run, ReadRunCurves(*catalog, options));
  EXPECT_TRUE(run.curves.empty());
  ASSERT_OK(OpenOrCreate(catalog.get(), kMetrics).status());
  ASSERT_VALUE(const auto log, RunLog::Open(SpoolRoot(*catalog), {.run = kRun}));
  for (int i = 0; i < 2000; ++i) ASSERT_OK(log->Log(i, i, {{{"long", i}, {"it's", -i}, {"sys/cpu", 1}}}));
  for (int i = 0; i < 10; ++i) ASSERT_OK(log->Log(i, i, {{{"short", i}}}));
  options.most_cells = 1000;
  options.most_curves = 3;
  ASSERT_VALUE(run, ReadRunCurves(*catalog, options));
  ASSERT_EQ(run.curves.size(), 4U);
  EXPECT_EQ(run.curves[0].form, RunCurve::kBuckets);
  EXPECT_LE(run.curves[0].by_step.all().size(), 1000U / 2 / 4);
  EXPECT_GT(run.curves[0].by_step.all().size(), 1000U / 2 / 4 / 2 - 1);
  EXPECT_EQ(run.curves[1].form, RunCurve::kBuckets);
  EXPECT_EQ(run.buckets, (1000 - 10) / 2 / 4);
  EXPECT_EQ(run.curves[2].form, RunCurve::kPoints);
  EXPECT_EQ(run.curves[2].whole.size(), 10U);
  EXPECT_EQ(run.curves[3].key, "sys/cpu");
  EXPECT_EQ(run.curves[3].form, RunCurve::kFacts);
  EXPECT_EQ(run.curves[3].points, 2000);
  EXPECT_EQ(run.curves[1].last.step, 1999);
  EXPECT_EQ(run.curves[0].last.value, -1999);
  options.keys = {"it's"};
  ASSERT_VALUE(run, ReadRunCurves(*catalog, options));
  ASSERT_EQ(run.curves.size(), 1U);
  EXPECT_EQ(run.curves[0].key, "it's");
}

}  // namespace
}  // namespace headrace::trace
