// metric_rows: rows of `metrics` as they are read back, and which of their points count; and, for other
// tables too, all rows that there are now.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "base/status.h"
#include "table/catalog.h"

namespace headrace::trace {

inline constexpr char kSystem[] = "sys/";  // keys below it: their steps are not those of the program

std::string RunIs(const std::string& run);  // as a condition

// Of a table that spools fill: the newest version, and what lay in this machine's spools beside it.
class NewestRows {
 public:
  static Result<NewestRows> Of(const table::Catalog& catalog, const char* table);
  // Batches of the version's rows that pass the filter, and of all those in spools; always in the same order.
  Status Each(const std::vector<std::string>& columns, const std::string& where, const StopToken& stop,
              const std::function<Status(const arrow::RecordBatch&)>& each) const;
  // The bytes of a cell of a blob column that Each gave; nothing where it is null.
  Result<std::optional<std::string>> Bytes(const std::shared_ptr<arrow::Array>& blobs, int64_t row) const;

 private:
  std::optional<table::View> view_;  // nothing: there is no such table
  std::shared_ptr<arrow::RecordBatch> tail_;
};

struct MetricChunk {
  std::string_view key;  // while the callback runs
  int64_t rank = 0, life = 0, from = 0, to = 0, n = 0;
  std::vector<int64_t> steps;  // empty: equally far apart
  std::shared_ptr<const arrow::DoubleArray> values;
  int64_t time = 0;                                  // of its earliest point: microseconds since 1970
  std::shared_ptr<const arrow::FloatArray> seconds;  // after that; null: not asked for, or not known

  int64_t StepAt(int64_t i) const {
    if (!steps.empty()) return steps[static_cast<size_t>(i)];
    return n < 2 ? from : from + i * ((to - from) / (n - 1));
  }
  int64_t MicrosAt(int64_t i) const;       // as the view `points` has it
  int64_t CountBelow(int64_t step) const;  // points whose steps, which ascend, are less
};

struct ChunkOptions {
  std::string run;
  std::optional<std::string> key;  // nothing: all of them
  std::optional<int64_t> rank;
  bool seconds = false;
  StopToken stop;
};
Status EachChunk(const NewestRows& rows, const ChunkOptions& options,
                 const std::function<Status(MetricChunk)>& each);

// The first step of each life, over all keys of the program.
using Lives = std::map<int64_t, int64_t>;
// Of each rank. `options.key` and `options.seconds` do not matter.
Result<std::map<int64_t, Lives>> LivesOf(const NewestRows& rows, const ChunkOptions& options);
// How many of its first points no later life stands in place of.
int64_t CountedPoints(const MetricChunk& chunk, std::string_view key, const Lives& lives);

}  // namespace headrace::trace
