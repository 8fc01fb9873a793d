#include "trace/run_curves.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>
#include <utility>

#include "trace/columns.h"

namespace headrace::trace {
namespace {

constexpr int64_t kFewestBuckets = 64;
constexpr int64_t kCellsOfABucket = 4;  // two, by step and by time

// Of each key, by rank.
template <typename T>
using ByKey = std::map<std::string, std::map<int64_t, T>, std::less<>>;

// How many points each curve has at most: before those that later lives stand in place of are taken away.
Status CountPoints(const NewestRows& rows, const RunCurvesOptions& options, ByKey<int64_t>* counts) {
  const std::set<std::string, std::less<>> wanted(options.keys.begin(), options.keys.end());
  return rows.Each(
      {"run", "key", "rank", "n"}, RunIs(options.run), options.stop, [&](const arrow::RecordBatch& batch) {
        const auto text = [&](const char* name) -> const arrow::StringArray& {
          return static_cast<const arrow::StringArray&>(*batch.GetColumnByName(name));
        };
        const auto integer = [&](const char* name) -> const arrow::Int64Array& {
          return static_cast<const arrow::Int64Array&>(*batch.GetColumnByName(name));
        };
        for (int64_t row = 0; row < batch.num_rows(); ++row) {
          if (text("run").GetView(row) != options.run) continue;
          if (!wanted.empty() && !wanted.contains(text("key").GetView(row))) continue;
          (*counts)[text("key").GetString(row)][integer("rank").Value(row)] += integer("n").Value(row);
        }
        return Status::Ok();
      });
}

// The greatest share of the cells that every curve may take.
int64_t ShareOf(std::vector<int64_t> wanted, int64_t cells) {
  std::ranges::sort(wanted);
  for (size_t i = 0; i < wanted.size(); ++i) {
    const int64_t share = cells / static_cast<int64_t>(wanted.size() - i);
    if (wanted[i] > share) return share;
    cells -= wanted[i];
  }
  return INT64_MAX;
}

using Order = std::vector<std::tuple<bool, std::string, int64_t>>;  // below sys/ or not, key, rank

// In which form each curve is kept, and the order in which they are given: those of the program come first.
Order Plan(const ByKey<int64_t>& counts, const RunCurvesOptions& options, ByKey<RunCurve>* curves,
           int64_t* buckets) {
  Order order;
  for (const auto& [key, ranks] : counts)
    for (const auto& [rank, count] : ranks) order.emplace_back(key.starts_with(kSystem), key, rank);
  std::ranges::sort(order);
  const auto count_of = [&](const auto& one) { return counts.at(std::get<1>(one)).at(std::get<2>(one)); };
  const size_t drawn = std::min(order.size(), static_cast<size_t>(std::max<int64_t>(0, options.most_curves)));
  std::vector<int64_t> wanted;
  for (size_t i = 0; i < drawn; ++i) {
    const int64_t count = count_of(order[i]);
    wanted.push_back(count <= options.most_points ? count : options.most_buckets * kCellsOfABucket);
  }
  const int64_t share = ShareOf(wanted, options.most_cells);
  *buckets =
      std::clamp(share / kCellsOfABucket, kFewestBuckets, std::max(kFewestBuckets, options.most_buckets));
  for (size_t i = 0; i < order.size(); ++i) {
    const auto& [system, key, rank] = order[i];
    RunCurve& curve = (*curves)[key][rank];
    curve.key = key;
    curve.rank = rank;
    if (i >= drawn) continue;
    const bool whole = count_of(order[i]) <= std::min(options.most_points, share);
    curve.form = whole ? RunCurve::kPoints : RunCurve::kBuckets;
    curve.by_step = curve.by_time = Buckets(static_cast<size_t>(*buckets));
  }
  return order;
}

void AddPoint(const CurvePoint& point, int64_t began, RunCurve* curve) {
  curve->facts.Add(point.value);
  if (curve->points++ == 0 ||
      std::pair(point.step, point.micros) >= std::pair(curve->last.step, curve->last.micros))
    curve->last = point;
  if (curve->form == RunCurve::kPoints) {
    curve->whole.push_back(point);
  } else if (curve->form == RunCurve::kBuckets) {
    curve->by_step.Add(point.step, point.value);
    curve->by_time.Add(point.micros - began, point.value);
  }
}

}  // namespace

void Bucket::Add(double value) {
  if (std::isfinite(value)) {
    min = n == 0 ? value : std::min(min, value);
    max = n == 0 ? value : std::max(max, value);
    sum += value;
    ++n;
  } else {
    ++(std::isnan(value) ? nans : value > 0 ? plus : minus);
  }
}

void Bucket::Add(const Bucket& other) {
  if (other.n > 0) {
    min = n == 0 ? other.min : std::min(min, other.min);
    max = n == 0 ? other.max : std::max(max, other.max);
    sum += other.sum;
    n += other.n;
  }
  nans += other.nans;
  plus += other.plus;
  minus += other.minus;
}

void Buckets::Add(int64_t at, double value) {
  if (const int64_t index = at >> shift_; !last_ || index != last_index_) {
    last_ = &all_[index];
    last_index_ = index;
  }
  last_->Add(value);
  while (all_.size() > most_) Coarsen();
}

void Buckets::Coarsen() {
  std::map<int64_t, Bucket> wider;
  for (const auto& [index, bucket] : all_)
    wider.emplace_hint(wider.end(), index >> 1, Bucket{})->second.Add(bucket);
  all_ = std::move(wider);
  ++shift_;
  last_ = nullptr;
}

Result<RunCurves> ReadRunCurves(const table::Catalog& catalog, const RunCurvesOptions& options) {
  HEADRACE_ASSIGN(const auto rows, NewestRows::Of(catalog, kMetrics));
  const ChunkOptions asked{.run = options.run,
                           .key = options.keys.size() == 1 ? std::optional(options.keys[0]) : std::nullopt,
                           .rank = std::nullopt,
                           .seconds = true,
                           .stop = options.stop};
  RunCurves run;
  HEADRACE_ASSIGN(run.lives, LivesOf(rows, asked));
  ByKey<int64_t> counts;
  HEADRACE_TRY(CountPoints(rows, options, &counts));
  ByKey<RunCurve> curves;
  const auto order = Plan(counts, options, &curves, &run.buckets);
  HEADRACE_TRY(EachChunk(rows, asked, [&](const MetricChunk& chunk) {
    const auto found = curves.find(chunk.key);
    if (found == curves.end()) return Status::Ok();
    RunCurve& curve = found->second[chunk.rank];
    const int64_t counted = CountedPoints(chunk, chunk.key, run.lives[chunk.rank]);
    for (int64_t i = 0; i < counted; ++i)
      AddPoint({.step = chunk.StepAt(i), .micros = chunk.MicrosAt(i), .value = chunk.values->Value(i)},
               options.began, &curve);
    return Status::Ok();
  }));
  for (const auto& [system, key, rank] : order) {
    RunCurve& curve = curves[key][rank];
    if (curve.points == 0) continue;
    std::ranges::stable_sort(curve.whole, {},
                             [](const CurvePoint& p) { return std::pair(p.step, p.micros); });
    run.curves.push_back(std::move(curve));
  }
  return run;
}

}  // namespace headrace::trace
