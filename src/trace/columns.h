// The columns of the tables that a server fills: what is recorded of a request, and of a score. A record
// of the spool is a JSON object with these names; a row of `traces` is its start record and its end record
// together.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>
#include <nlohmann/json_fwd.hpp>

#include "base/status.h"

namespace headrace::trace {

// As spools and notes name their tables, and as people may. In a catalog they are `hr.traces` and
// `hr.scores`.
inline constexpr const char* kTraces = "traces";
inline constexpr const char* kScores = "scores";

enum class Type { kText, kInteger, kNumber, kTime, kFlag };  // kTime: microseconds since 1970 in JSON

struct Column {
  const char* name;
  Type type;
};
std::span<const Column> TraceColumns();
std::span<const Column> ScoreColumns();

// The id of a request's row, from the id that an API told: "chatcmpl-…", "cmpl-…", "resp_…", "msg_…".
std::string RowIdOf(std::string told);

std::shared_ptr<arrow::Schema> ArrowSchema(std::span<const Column> columns);
// JSON objects as a batch. A value that is missing or of another type is null: a record that a newer program
// wrote is still a row.
Result<std::shared_ptr<arrow::RecordBatch>> ToBatch(std::span<const Column> columns,
                                                    const std::vector<nlohmann::json>& rows);

}  // namespace headrace::trace
