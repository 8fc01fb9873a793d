#include "trace/curve.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "trace/columns.h"
#include "trace/metric_rows.h"

namespace headrace::trace {
namespace {

// The points [begin, end) of a chunk that no later life stands in place of and that are asked for.
std::pair<int64_t, int64_t> Counted(const MetricChunk& chunk, const Lives& lives,
                                    const CurveOptions& options) {
  int64_t begin = 0, end = CountedPoints(chunk, options.key, lives);
  if (options.from <= options.to) {
    begin = chunk.CountBelow(options.from);
    if (options.to < INT64_MAX) end = std::min(end, chunk.CountBelow(options.to + 1));
  }
  return {begin, std::max(begin, end)};
}

void Add(const double* values, int64_t count, Pixel* pixel) {
  double least = pixel->n > 0 ? pixel->min : INFINITY, most = pixel->n > 0 ? pixel->max : -INFINITY;
  int64_t nans = 0;
  for (int64_t i = 0; i < count; ++i) {
    nans += values[i] != values[i];
    least = values[i] < least ? values[i] : least;
    most = values[i] > most ? values[i] : most;
  }
  pixel->nans += nans;
  if (nans == count) return;
  const auto is_number = [](double value) { return !std::isnan(value); };
  if (pixel->n == 0) pixel->first = *std::find_if(values, values + count, is_number);
  pixel->last =
      *std::find_if(std::reverse_iterator(values + count), std::reverse_iterator(values), is_number);
  pixel->min = least;
  pixel->max = most;
  pixel->n += count - nans;
}

}  // namespace

size_t Curve::PixelOf(int64_t step) const {
  // In 128 bits: steps may lie anywhere in int64.
  const __int128 width = static_cast<__int128>(to) - from + 1;
  return static_cast<size_t>((static_cast<__int128>(step) - from) * static_cast<int64_t>(pixels.size()) /
                             width);
}

Result<Curve> ReadCurve(const table::Catalog& catalog, const CurveOptions& options) {
  if (options.pixels < 1) return Status::Invalid("a curve has at least one pixel");
  HEADRACE_ASSIGN(const auto rows, NewestRows::Of(catalog, kMetrics));
  const ChunkOptions asked{
      .run = options.run, .key = options.key, .rank = options.rank, .seconds = false, .stop = options.stop};
  HEADRACE_ASSIGN(auto lives_of, LivesOf(rows, asked));
  const Lives& lives = lives_of[options.rank];
  std::vector<MetricChunk> chunks;
  HEADRACE_TRY(EachChunk(rows, asked, [&](MetricChunk chunk) {
    chunks.push_back(std::move(chunk));
    return Status::Ok();
  }));
  // Chunks of one life do not overlap where steps ascend; where they do, the order is that of their first
  // steps.
  std::ranges::stable_sort(chunks, {}, &MetricChunk::from);
  Curve curve;
  curve.from = INT64_MAX;
  curve.to = INT64_MIN;
  for (const MetricChunk& chunk : chunks) {
    const auto [begin, end] = Counted(chunk, lives, options);
    if (begin == end) continue;
    curve.from = std::min(curve.from, chunk.StepAt(begin));
    curve.to = std::max(curve.to, chunk.StepAt(end - 1));
    curve.points += end - begin;
  }
  if (curve.points == 0) return Curve{};
  if (options.from <= options.to) {
    curve.from = options.from;
    curve.to = options.to;
  }
  curve.pixels.resize(static_cast<size_t>(options.pixels));
  for (const MetricChunk& chunk : chunks) {
    const auto [begin, end] = Counted(chunk, lives, options);
    for (int64_t at = begin; at < end;) {
      const size_t pixel = curve.PixelOf(chunk.StepAt(at));
      // The points after it that fall into the same one.
      int64_t next = at + 1, high = end;
      while (next < high) {
        const int64_t middle = next + (high - next) / 2;
        if (curve.PixelOf(chunk.StepAt(middle)) == pixel) {
          next = middle + 1;
        } else {
          high = middle;
        }
      }
      Add(chunk.values->raw_values() + at, next - at, &curve.pixels[pixel]);
      at = next;
    }
  }
  return curve;
}

Result<std::vector<std::string>> KeysOf(const table::Catalog& catalog, const std::string& run, bool system) {
  HEADRACE_ASSIGN(const auto rows, NewestRows::Of(catalog, kMetrics));
  std::set<std::string> keys;
  HEADRACE_TRY(rows.Each({"run", "key"}, RunIs(run), {}, [&](const arrow::RecordBatch& batch) {
    const auto& runs = static_cast<const arrow::StringArray&>(*batch.GetColumnByName("run"));
    const auto& names = static_cast<const arrow::StringArray&>(*batch.GetColumnByName("key"));
    for (int64_t i = 0; i < batch.num_rows(); ++i)
      if (runs.GetView(i) == run && (system || !names.GetView(i).starts_with(kSystem)))
        keys.insert(names.GetString(i));
    return Status::Ok();
  }));
  return std::vector<std::string>(keys.begin(), keys.end());
}

}  // namespace headrace::trace
