#include "trace/curve.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <set>

#include "table/arrow_bridge.h"
#include "trace/tables.h"
#include "trace/tail.h"

namespace headrace::trace {
namespace {

constexpr char kSystem[] = "sys/";  // its steps are not those of the program

std::string Quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "''" : std::string(1, c);
  return out + "'";
}

using Each = std::function<Status(const arrow::RecordBatch&)>;

// Batches of the newest version that pass the filter, and of its tail, which may hold others, too.
Status EachBatch(const table::Catalog& catalog, const std::vector<std::string>& columns,
                 const std::string& where, const StopToken& stop, const std::function<void()>& begin,
                 const Each& each) {
  for (;;) {
    begin();
    HEADRACE_ASSIGN(const auto view, Newest(catalog, kMetrics));
    if (!view) return Status::Ok();
    HEADRACE_ASSIGN(const auto reader, view->Scan({.columns = columns, .where = where, .stop = stop}));
    for (;;) {
      std::shared_ptr<arrow::RecordBatch> batch;
      HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
      if (!batch) break;
      HEADRACE_TRY(each(*batch));
    }
    const auto tail = Tail(catalog, SystemName(kMetrics), *view);
    if (tail.status().Is(Code::kConflict)) continue;
    HEADRACE_TRY(tail.status());
    return each(**tail);
  }
}

template <typename Array>
const Array& ArrayOf(const arrow::RecordBatch& batch, const char* name) {
  return static_cast<const Array&>(*batch.GetColumnByName(name));
}

// A row of `metrics`.
struct Chunk {
  int64_t life = 0, from = 0, to = 0, n = 0;
  std::vector<int64_t> steps;  // empty: equally far apart
  std::shared_ptr<const arrow::DoubleArray> values;

  int64_t StepAt(int64_t i) const {
    if (!steps.empty()) return steps[static_cast<size_t>(i)];
    return n < 2 ? from : from + i * ((to - from) / (n - 1));
  }
};

// The first step of each life, over all keys of the program.
using Lives = std::map<int64_t, int64_t>;

Status ReadChunks(const table::Catalog& catalog, const CurveOptions& options, std::vector<Chunk>* chunks,
                  Lives* lives) {
  const std::string rank = std::to_string(options.rank);
  HEADRACE_TRY(EachBatch(
      catalog, {"run", "key", "rank", "life", "from_step"},
      "run = " + Quoted(options.run) + " and rank = " + rank, options.stop, [&] { lives->clear(); },
      [&](const arrow::RecordBatch& batch) {
        const auto& run = ArrayOf<arrow::StringArray>(batch, "run");
        const auto& key = ArrayOf<arrow::StringArray>(batch, "key");
        const auto& ranks = ArrayOf<arrow::Int64Array>(batch, "rank");
        for (int64_t i = 0; i < batch.num_rows(); ++i) {
          if (run.GetView(i) != options.run || ranks.Value(i) != options.rank) continue;
          if (key.GetView(i).starts_with(kSystem)) continue;
          const int64_t from = ArrayOf<arrow::Int64Array>(batch, "from_step").Value(i);
          const auto [life, is_new] =
              lives->try_emplace(ArrayOf<arrow::Int64Array>(batch, "life").Value(i), from);
          if (!is_new) life->second = std::min(life->second, from);
        }
        return Status::Ok();
      }));
  return EachBatch(
      catalog, {"run", "key", "rank", "life", "from_step", "to_step", "n", "steps", "values"},
      "run = " + Quoted(options.run) + " and key = " + Quoted(options.key) + " and rank = " + rank,
      options.stop, [&] { chunks->clear(); },
      [&](const arrow::RecordBatch& batch) {
        const auto& run = ArrayOf<arrow::StringArray>(batch, "run");
        const auto& key = ArrayOf<arrow::StringArray>(batch, "key");
        const auto& ranks = ArrayOf<arrow::Int64Array>(batch, "rank");
        const auto& steps = ArrayOf<arrow::ListArray>(batch, "steps");
        for (int64_t i = 0; i < batch.num_rows(); ++i) {
          if (run.GetView(i) != options.run || key.GetView(i) != options.key ||
              ranks.Value(i) != options.rank)
            continue;
          Chunk chunk{.life = ArrayOf<arrow::Int64Array>(batch, "life").Value(i),
                      .from = ArrayOf<arrow::Int64Array>(batch, "from_step").Value(i),
                      .to = ArrayOf<arrow::Int64Array>(batch, "to_step").Value(i),
                      .n = ArrayOf<arrow::Int64Array>(batch, "n").Value(i),
                      .steps = {},
                      .values = std::static_pointer_cast<arrow::DoubleArray>(
                          ArrayOf<arrow::ListArray>(batch, "values").value_slice(i))};
          if (!steps.IsNull(i)) {
            const auto list = std::static_pointer_cast<arrow::Int64Array>(steps.value_slice(i));
            chunk.steps.assign(list->raw_values(), list->raw_values() + list->length());
          }
          if (chunk.values->length() != chunk.n ||
              (!chunk.steps.empty() && static_cast<int64_t>(chunk.steps.size()) != chunk.n))
            return Status::Corrupt("a row of `metrics` of run " + options.run + " has " +
                                   std::to_string(chunk.values->length()) + " values and says that it has " +
                                   std::to_string(chunk.n));
          chunks->push_back(std::move(chunk));
        }
        return Status::Ok();
      });
}

// The points [begin, end) of a chunk, whose steps ascend, that no later life stands in place of and that are
// asked for.
std::pair<int64_t, int64_t> Counted(const Chunk& chunk, const Lives& lives, const CurveOptions& options) {
  int64_t begin = 0, end = chunk.n;
  const auto before = [&](int64_t step) {  // how many have steps below it
    int64_t low = 0, high = chunk.n;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (chunk.StepAt(middle) < step) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  };
  if (!options.key.starts_with(kSystem))
    for (auto later = lives.upper_bound(chunk.life); later != lives.end(); ++later)
      end = std::min(end, before(later->second));
  if (options.from <= options.to) {
    begin = before(options.from);
    if (options.to < INT64_MAX) end = std::min(end, before(options.to + 1));
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
  std::vector<Chunk> chunks;
  Lives lives;
  HEADRACE_TRY(ReadChunks(catalog, options, &chunks, &lives));
  // Chunks of one life do not overlap where steps ascend; where they do, the order is that of their first
  // steps.
  std::ranges::stable_sort(chunks, {}, &Chunk::from);
  Curve curve;
  curve.from = INT64_MAX;
  curve.to = INT64_MIN;
  for (const Chunk& chunk : chunks) {
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
  for (const Chunk& chunk : chunks) {
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
  std::set<std::string> keys;
  HEADRACE_TRY(EachBatch(
      catalog, {"run", "key"}, "run = " + Quoted(run), {}, [&] { keys.clear(); },
      [&](const arrow::RecordBatch& batch) {
        const auto& runs = ArrayOf<arrow::StringArray>(batch, "run");
        const auto& names = ArrayOf<arrow::StringArray>(batch, "key");
        for (int64_t i = 0; i < batch.num_rows(); ++i)
          if (runs.GetView(i) == run && (system || !names.GetView(i).starts_with(kSystem)))
            keys.insert(names.GetString(i));
        return Status::Ok();
      }));
  return std::vector<std::string>(keys.begin(), keys.end());
}

}  // namespace headrace::trace
