#include "trace/curve.h"

#include <cmath>
#include <random>

#include "trace/run_log.h"
#include "trace/trace_testing.h"

namespace headrace::trace {
namespace {

constexpr char kRun[] = "0123456789abcdef0123456789abcdef";

struct Logged {
  int64_t life, step;
  double value;
};

// What ReadCurve must give, from every point by itself.
Curve Expected(std::vector<Logged> points, const CurveOptions& options) {
  std::map<int64_t, int64_t> first;
  for (const Logged& p : points) {
    const auto [life, is_new] = first.try_emplace(p.life, p.step);
    if (!is_new) life->second = std::min(life->second, p.step);
  }
  std::erase_if(points, [&](const Logged& p) {
    for (const auto& [life, step] : first)
      if (life > p.life && p.step >= step) return true;
    return options.from <= options.to && (p.step < options.from || p.step > options.to);
  });
  Curve curve;
  if (points.empty()) return curve;
  std::ranges::stable_sort(points, {}, &Logged::step);
  curve.from = options.from <= options.to ? options.from : points.front().step;
  curve.to = options.from <= options.to ? options.to : points.back().step;
  curve.points = static_cast<int64_t>(points.size());
  curve.pixels.resize(static_cast<size_t>(options.pixels));
  for (const Logged& p : points) {
    const auto place = static_cast<size_t>(static_cast<__int128>(p.step - curve.from) * options.pixels /
                                           (curve.to - curve.from + 1));
    Pixel& pixel = curve.pixels[place];
    if (std::isnan(p.value)) {
      ++pixel.nans;
      continue;
    }
    pixel.min = pixel.n == 0 ? p.value : std::min(pixel.min, p.value);
    pixel.max = pixel.n == 0 ? p.value : std::max(pixel.max, p.value);
    ++pixel.n;
  }
  return curve;
}

void Compare(const Curve& got, const Curve& wanted) {
  ASSERT_EQ(got.points, wanted.points);
  ASSERT_EQ(got.from, wanted.from);
  ASSERT_EQ(got.to, wanted.to);
  ASSERT_EQ(got.pixels.size(), wanted.pixels.size());
  for (size_t i = 0; i < got.pixels.size(); ++i) {
    ASSERT_EQ(got.pixels[i].n, wanted.pixels[i].n) << i;
    ASSERT_EQ(got.pixels[i].nans, wanted.pixels[i].nans) << i;
    ASSERT_EQ(got.pixels[i].min, wanted.pixels[i].min) << i;
    ASSERT_EQ(got.pixels[i].max, wanted.pixels[i].max) << i;
  }
}

// Three lives, each going back some steps, with gaps, repeated and unordered steps; half of it in the spool
// still.
void OneOf(uint64_t seed) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  ASSERT_OK(OpenOrCreate(catalog.get(), kMetrics).status());
  std::mt19937_64 random(seed);
  std::vector<Logged> points;
  int64_t step = static_cast<int64_t>(random() % 100) - 50;
  const bool regular = random() % 2 == 0;
  for (int64_t life = 1; life <= 3; ++life) {
    ASSERT_VALUE(auto log, RunLog::Open(SpoolRoot(*catalog), {.run = kRun, .life = life}));
    const int count = 1 + static_cast<int>(random() % 5000);
    for (int i = 0; i < count; ++i) {
      step += regular ? 1 : static_cast<int64_t>(random() % 5) - 1;
      const double value = random() % 100 == 0 ? NAN : random() % 100 == 0 ? INFINITY : std::sin(i) * 1e3;
      ASSERT_OK(log->Log(step, i, {{{"loss", value}}}));
      points.push_back({life, step, value});
      if (random() % 2000 == 0) {
        ASSERT_OK(CommitSpools(catalog).status());
      }
    }
    step -= static_cast<int64_t>(random() % 500);
  }
  for (int i = 0; i < 10; ++i) {
    CurveOptions options{.run = kRun, .key = "loss", .pixels = 1 + static_cast<int>(random() % 300)};
    if (i % 2 == 1) {
      options.from = static_cast<int64_t>(random() % 3000) - 100;
      options.to = options.from + static_cast<int64_t>(random() % 1000);
    }
    ASSERT_VALUE(const Curve curve, ReadCurve(*catalog, options));
    Compare(curve, Expected(points, options));
  }
}

TEST(Curve, EachPixelHasTheExtremesOfAllItsPoints) {
  for (uint64_t seed = 1; seed <= static_cast<uint64_t>(testing::Scaled(20)); ++seed) {
    SCOPED_TRACE(seed);
    OneOf(seed);
    if (HasFatalFailure()) return;
  }
}

TEST(Curve, FarStepsAndNoPoints) {
  const TempFolder folder;
  ASSERT_VALUE(const auto catalog, table::Catalog::Init(folder.path() + "/c", {.sync = false}));
  ASSERT_VALUE(Curve curve, ReadCurve(*catalog, {.run = kRun, .key = "loss"}));
  EXPECT_EQ(curve.points, 0);
  ASSERT_VALUE(const auto log, RunLog::Open(SpoolRoot(*catalog), {.run = kRun}));
  for (const int64_t step : {INT64_MIN, int64_t{0}, INT64_MAX})
    ASSERT_OK(log->Log(step, 0, {{{"loss", 1.0}}}));
  ASSERT_OK(log->Log(7, 0, {{{"sys/cpu", 1.0}, {"it's", 2.0}}}));
  ASSERT_OK(CommitSpools(catalog).status());
  ASSERT_VALUE(curve, ReadCurve(*catalog, {.run = kRun, .key = "loss", .pixels = 3}));
  EXPECT_EQ(curve.points, 3);
  for (const Pixel& pixel : curve.pixels) EXPECT_EQ(pixel.n, 1);
  ASSERT_VALUE(curve, ReadCurve(*catalog, {.run = kRun, .key = "it's", .pixels = 3}));
  EXPECT_EQ(curve.points, 1);
  ASSERT_VALUE(curve, ReadCurve(*catalog, {.run = "other' or 1=1", .key = "loss"}));
  EXPECT_EQ(curve.points, 0);
  EXPECT_FALSE(ReadCurve(*catalog, {.run = kRun, .key = "loss", .pixels = 0}).ok());
  ASSERT_VALUE(const auto keys, KeysOf(*catalog, kRun, false));
  EXPECT_EQ(keys, (std::vector<std::string>{"it's", "loss"}));
  ASSERT_VALUE(const auto all, KeysOf(*catalog, kRun, true));
  EXPECT_EQ(all.size(), 3U);
}

}  // namespace
}  // namespace headrace::trace
