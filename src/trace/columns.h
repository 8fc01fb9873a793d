// The columns of the tables that spools fill, and rows as batches. A row on its way is a JSON object with
// these names; lists of numbers and bytes are binary values in it, as they lie in memory.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>
#include <nlohmann/json_fwd.hpp>

#include "base/status.h"

namespace headrace::trace {

// As spools and notes name their tables, and as people may. In a catalog they are `hr.traces`, `hr.scores`,
// ….
inline constexpr const char* kTraces = "traces";
inline constexpr const char* kScores = "scores";
inline constexpr const char* kRuns = "runs";
inline constexpr const char* kMetrics = "metrics";
inline constexpr const char* kMedia = "media";

enum class Type {
  kText,
  kInteger,
  kNumber,
  kTime,  // microseconds since 1970 in JSON
  kFlag,
  kJson,      // a JSON value, or text that is JSON
  kIntegers,  // list<int64>: binary, 8 bytes each
  kFloats,    // list<float32>: binary, 4 bytes each
  kNumbers,   // list<float64>: binary, 8 bytes each
  kBytes,     // a blob: binary
};

struct Column {
  const char* name;
  Type type;
};
std::span<const Column> TraceColumns();
std::span<const Column> ScoreColumns();
// run_columns.cc
std::span<const Column> RunColumns();
std::span<const Column> MetricColumns();
std::span<const Column> MediaColumns();

// The id of a request's row, from the id that an API told: "chatcmpl-…", "cmpl-…", "resp_…", "msg_…".
std::string RowIdOf(std::string told);

// SQL of no rows with these columns, but for blobs.
std::string EmptySelect(std::span<const Column> columns);

std::shared_ptr<arrow::Schema> ArrowSchema(std::span<const Column> columns);
// JSON objects as a batch. A value that is missing or of another type is null: a record that a newer program
// wrote is still a row.
Result<std::shared_ptr<arrow::RecordBatch>> ToBatch(std::span<const Column> columns,
                                                    const std::vector<nlohmann::json>& rows);

}  // namespace headrace::trace
