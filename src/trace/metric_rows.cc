#include "trace/metric_rows.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <cmath>

#include "table/arrow_bridge.h"
#include "trace/tables.h"
#include "trace/tail.h"

namespace headrace::trace {
namespace {

std::string Quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "''" : std::string(1, c);
  return out + "'";
}

template <typename Array>
const Array& ArrayOf(const arrow::RecordBatch& batch, const char* name) {
  return static_cast<const Array&>(*batch.GetColumnByName(name));
}

std::string Where(const ChunkOptions& options, bool any_key) {
  std::string where = RunIs(options.run);
  if (options.key && !any_key) where += " and key = " + Quoted(*options.key);
  if (options.rank) where += " and rank = " + std::to_string(*options.rank);
  return where;
}

// Rows of spools are not filtered.
bool IsAskedFor(const arrow::RecordBatch& batch, int64_t row, const ChunkOptions& options) {
  return ArrayOf<arrow::StringArray>(batch, "run").GetView(row) == options.run &&
         (!options.rank || ArrayOf<arrow::Int64Array>(batch, "rank").Value(row) == *options.rank);
}

Result<MetricChunk> ChunkOf(const arrow::RecordBatch& batch, int64_t row, const ChunkOptions& options) {
  const auto integer = [&](const char* name) { return ArrayOf<arrow::Int64Array>(batch, name).Value(row); };
  MetricChunk chunk{.key = ArrayOf<arrow::StringArray>(batch, "key").GetView(row),
                    .rank = integer("rank"),
                    .life = integer("life"),
                    .from = integer("from_step"),
                    .to = integer("to_step"),
                    .n = integer("n"),
                    .steps = {},
                    .values = std::static_pointer_cast<arrow::DoubleArray>(
                        ArrayOf<arrow::ListArray>(batch, "values").value_slice(row)),
                    .time = 0,
                    .seconds = nullptr};
  const auto& steps = ArrayOf<arrow::ListArray>(batch, "steps");
  if (!steps.IsNull(row)) {
    const auto list = std::static_pointer_cast<arrow::Int64Array>(steps.value_slice(row));
    chunk.steps.assign(list->raw_values(), list->raw_values() + list->length());
  }
  if (options.seconds) {
    chunk.time = ArrayOf<arrow::TimestampArray>(batch, "time").Value(row);
    const auto& seconds = ArrayOf<arrow::ListArray>(batch, "seconds");
    if (!seconds.IsNull(row))
      chunk.seconds = std::static_pointer_cast<arrow::FloatArray>(seconds.value_slice(row));
  }
  const auto wrong = [&](int64_t count) { return count != chunk.n; };
  if (wrong(chunk.values->length()) ||
      (!chunk.steps.empty() && wrong(static_cast<int64_t>(chunk.steps.size()))) ||
      (chunk.seconds && wrong(chunk.seconds->length())))
    return Status::Corrupt("a row of `metrics` of run " + options.run + " has " +
                           std::to_string(chunk.values->length()) + " values and says that it has " +
                           std::to_string(chunk.n));
  return chunk;
}

}  // namespace

std::string RunIs(const std::string& run) { return "run = " + Quoted(run); }

Result<NewestRows> NewestRows::Of(const table::Catalog& catalog, const char* table) {
  for (;;) {
    NewestRows rows;
    HEADRACE_ASSIGN(rows.view_, Newest(catalog, table));
    if (!rows.view_) return rows;
    auto tail = Tail(catalog, SystemName(table), *rows.view_);
    if (tail.status().Is(Code::kConflict)) continue;
    HEADRACE_ASSIGN(rows.tail_, std::move(tail));
    return rows;
  }
}

Result<std::optional<std::string>> NewestRows::Bytes(const std::shared_ptr<arrow::Array>& blobs,
                                                     int64_t row) const {
  if (blobs->IsNull(row)) return std::optional<std::string>();
  HEADRACE_ASSIGN(const auto found, view_->ReadBlobs(blobs->Slice(row, 1)));
  if (!found[0]) return std::optional<std::string>();
  return std::optional<std::string>(found[0]->view());
}

Status NewestRows::Each(const std::vector<std::string>& columns, const std::string& where,
                        const StopToken& stop,
                        const std::function<Status(const arrow::RecordBatch&)>& each) const {
  if (!view_) return Status::Ok();
  HEADRACE_ASSIGN(const auto reader, view_->Scan({.columns = columns, .where = where, .stop = stop}));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) return each(*tail_);
    HEADRACE_TRY(each(*batch));
  }
}

int64_t MetricChunk::MicrosAt(int64_t i) const {
  return seconds ? time + std::llround(static_cast<double>(seconds->Value(i)) * 1e6) : time;
}

int64_t MetricChunk::CountBelow(int64_t step) const {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (StepAt(middle) < step) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

Status EachChunk(const NewestRows& rows, const ChunkOptions& options,
                 const std::function<Status(MetricChunk)>& each) {
  std::vector<std::string> columns = {"run",     "key", "rank",  "life",  "from_step",
                                      "to_step", "n",   "steps", "values"};
  if (options.seconds) columns.insert(columns.end(), {"time", "seconds"});
  return rows.Each(columns, Where(options, false), options.stop, [&](const arrow::RecordBatch& batch) {
    const auto& key = ArrayOf<arrow::StringArray>(batch, "key");
    for (int64_t row = 0; row < batch.num_rows(); ++row) {
      if (!IsAskedFor(batch, row, options) || (options.key && key.GetView(row) != *options.key)) continue;
      HEADRACE_ASSIGN(auto chunk, ChunkOf(batch, row, options));
      HEADRACE_TRY(each(std::move(chunk)));
    }
    return Status::Ok();
  });
}

Result<std::map<int64_t, Lives>> LivesOf(const NewestRows& rows, const ChunkOptions& options) {
  std::map<int64_t, Lives> lives;
  HEADRACE_TRY(rows.Each({"run", "key", "rank", "life", "from_step"}, Where(options, true), options.stop,
                         [&](const arrow::RecordBatch& batch) {
                           const auto& key = ArrayOf<arrow::StringArray>(batch, "key");
                           for (int64_t row = 0; row < batch.num_rows(); ++row) {
                             if (!IsAskedFor(batch, row, options) || key.GetView(row).starts_with(kSystem))
                               continue;
                             const int64_t from = ArrayOf<arrow::Int64Array>(batch, "from_step").Value(row);
                             const auto [life, is_new] =
                                 lives[ArrayOf<arrow::Int64Array>(batch, "rank").Value(row)].try_emplace(
                                     ArrayOf<arrow::Int64Array>(batch, "life").Value(row), from);
                             if (!is_new) life->second = std::min(life->second, from);
                           }
                           return Status::Ok();
                         }));
  return lives;
}

int64_t CountedPoints(const MetricChunk& chunk, std::string_view key, const Lives& lives) {
  int64_t counted = chunk.n;
  if (key.starts_with(kSystem)) return counted;
  for (auto later = lives.upper_bound(chunk.life); later != lives.end(); ++later)
    counted = std::min(counted, chunk.CountBelow(later->second));
  return counted;
}

}  // namespace headrace::trace
