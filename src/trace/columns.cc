#include "trace/columns.h"

#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_nested.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/array/builder_time.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

#include <cstring>
#include <string_view>
#include <unordered_map>

#include "base/json.h"
#include "table/arrow_bridge.h"
#include "table/conform.h"
#include "table/type_arrow.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

constexpr Column kTraceColumns[] = {
    // Known when a request is taken in.
    {"id", Type::kText},
    {"started", Type::kTime},
    {"endpoint", Type::kText},
    {"model", Type::kText},         // as it was asked for
    {"model_sha256", Type::kText},  // what answered
    {"adapter", Type::kText},
    {"engine", Type::kText},    // build
    {"key", Type::kText},       // id of the API key, "" without one
    {"key_name", Type::kText},  // what it was called then
    {"user", Type::kText},      // what the client says of its user
    {"client", Type::kText},    // User-Agent
    {"trace_id", Type::kText},
    {"parent_span_id", Type::kText},  // both from traceparent
    {"priority", Type::kInteger},
    {"stream", Type::kFlag},
    {"template_hash", Type::kText},
    {"input", Type::kText},        // messages and tools as they came, JSON
    {"prompt", Type::kText},       // rendered
    {"prompt_hash", Type::kText},  // XXH3 of it
    {"sampling", Type::kText},     // JSON
    {"max_tokens", Type::kInteger},
    // Known at its end.
    {"ended", Type::kTime},
    {"finish", Type::kText},  // stop, length, tool_calls, cancelled, timeout, error, interrupted
    {"status", Type::kInteger},
    {"error", Type::kText},
    {"answer", Type::kText},
    {"answers", Type::kText},  // with n > 1: all of them, JSON
    {"reasoning", Type::kText},
    {"tool_calls", Type::kText},  // JSON
    {"answer_hash", Type::kText},
    {"response", Type::kText},  // of /v1/responses, as it was told, where the client wants it kept; JSON
    {"prompt_tokens", Type::kInteger},
    {"cached_tokens", Type::kInteger},
    {"answer_tokens", Type::kInteger},
    {"forced_tokens", Type::kInteger},
    {"preemptions", Type::kInteger},
    {"queue_seconds", Type::kNumber},
    {"prefill_seconds", Type::kNumber},
    {"decode_seconds", Type::kNumber},
    {"compute_seconds", Type::kNumber},
    {"first_token_seconds", Type::kNumber},
    {"total_seconds", Type::kNumber},
    {"why", Type::kText},  // where the time went, in words
    // Of spans, whoever made them: a request is one too.
    {"time", Type::kTime},  // when it came to be recorded
    {"span_id", Type::kText},
    {"parent", Type::kText},  // span_id of its parent
    {"name", Type::kText},
    {"kind", Type::kText},       // internal, server, client, producer, consumer
    {"operation", Type::kText},  // chat, embeddings, execute_tool, …
    {"service", Type::kText},    // whose span it is
    {"session", Type::kText},    // the conversation
    {"provider", Type::kText},
    {"cost", Type::kNumber},      // US dollars
    {"attributes", Type::kText},  // as they came; JSON, like those that follow
    {"events", Type::kText},
    {"links", Type::kText},
    {"resource", Type::kText},
    {"media", Type::kText},  // what was cut out of the texts: sha256, bytes, type; it lies in hr.media
};

constexpr Column kScoreColumns[] = {
    {"request", Type::kText},  // traces.id
    {"time", Type::kTime},
    {"name", Type::kText},  // what was judged: "helpful", "correct"
    {"value", Type::kNumber},
    {"label", Type::kText},
    {"comment", Type::kText},
    {"source", Type::kText},  // person, model, program, user
    {"who", Type::kText},
    // Since scores are of anything, not of requests alone. `request` is still filled for those.
    {"id", Type::kText},           // ScoreId
    {"seq", Type::kInteger},       // of this writer's rows, ascending
    {"writer", Type::kText},       // the process
    {"target_kind", Type::kText},  // request, span, trace, session, run, sample, row
    {"target", Type::kText},       // its id
    {"against", Type::kText},      // of a comparison: the id of what lost to it, or won; of the same kind
    {"judge", Type::kText},        // of source model or program: which, and which version of it
    {"repeat", Type::kInteger},    // the how manyth time by the same judge, from 0
    {"run", Type::kText},          // that it was given in
    {"queue", Type::kText},        // name of the queue that it was given for
    {"seconds", Type::kNumber},    // that the judgement took
    {"supersedes", Type::kText},   // the id of the score that this one replaces
    {"state", Type::kText},        // null; withdrawn: it was taken back; skipped: seen, and not judged
};

table::Field BlobField(const char* name) {
  table::Field field{-1, name, {}, "", false};
  field.type.kind = table::Kind::kBlob;
  field.type.children = table::BlobFields();
  return field;
}

// Null where a column of the type is a struct of facts.
const char* SqlType(Type type) {
  switch (type) {
    case Type::kText:
      return "VARCHAR";
    case Type::kInteger:
      return "BIGINT";
    case Type::kNumber:
      return "DOUBLE";
    case Type::kTime:
      return "TIMESTAMPTZ";
    case Type::kFlag:
      return "BOOLEAN";
    case Type::kJson:
      return "JSON";
    case Type::kIntegers:
      return "BIGINT[]";
    case Type::kFloats:
      return "FLOAT[]";
    case Type::kNumbers:
      return "DOUBLE[]";
    case Type::kBytes:
      return nullptr;
  }
  return "VARCHAR";
}

std::shared_ptr<arrow::Field> ArrowField(const Column& column) {
  const auto of = [&](std::shared_ptr<arrow::DataType> type) {
    return arrow::field(column.name, std::move(type));
  };
  switch (column.type) {
    case Type::kText:
      return of(arrow::utf8());
    case Type::kInteger:
      return of(arrow::int64());
    case Type::kNumber:
      return of(arrow::float64());
    case Type::kTime:
      return of(arrow::timestamp(arrow::TimeUnit::MICRO, "UTC"));
    case Type::kFlag:
      return of(arrow::boolean());
    case Type::kJson:
      return of(arrow::utf8())
          ->WithMetadata(arrow::key_value_metadata({"ARROW:extension:name"}, {"arrow.json"}));
    case Type::kIntegers:
      return of(arrow::list(arrow::int64()));
    case Type::kFloats:
      return of(arrow::list(arrow::float32()));
    case Type::kNumbers:
      return of(arrow::list(arrow::float64()));
    case Type::kBytes:
      return table::ToArrow(BlobField(column.name));
  }
  return nullptr;
}

// Of one column: the value of each row, null where it has none.
using Cells = std::vector<const json*>;

// Of all columns. Each row is walked once: to look for every column in it took as long as everything else.
std::vector<Cells> CellsOf(std::span<const Column> columns, const std::vector<json>& rows) {
  std::unordered_map<std::string_view, size_t> places;
  for (const Column& column : columns) places.emplace(column.name, places.size());
  std::vector<Cells> cells(columns.size(), Cells(rows.size()));
  for (size_t row = 0; row < rows.size(); ++row) {
    if (!rows[row].is_object()) continue;
    for (const auto& [name, value] : rows[row].get_ref<const json::object_t&>()) {
      const auto found = places.find(name);
      if (found != places.end()) cells[found->second][row] = &value;
    }
  }
  return cells;
}

template <typename Builder, typename Take>
Result<std::shared_ptr<arrow::Array>> Build(Builder* builder, const Cells& cells, const Take& take) {
  HEADRACE_ARROW_TRY(builder->Reserve(static_cast<int64_t>(cells.size())));
  for (const json* cell : cells)
    if (cell == nullptr || !take(*cell, builder)) HEADRACE_ARROW_TRY(builder->AppendNull());
  std::shared_ptr<arrow::Array> array;
  HEADRACE_ARROW_TRY(builder->Finish(&array));
  return array;
}

// A list's values lie in a binary value one after another.
template <typename ValueBuilder>
Result<std::shared_ptr<arrow::Array>> BuildLists(const Cells& cells) {
  using Value = typename ValueBuilder::value_type;
  const auto values = std::make_shared<ValueBuilder>();
  arrow::ListBuilder builder(arrow::default_memory_pool(), values);
  return Build(&builder, cells, [&](const json& value, auto* to) {
    if (!value.is_binary() || value.get_binary().size() % sizeof(Value) != 0) return false;
    const auto& bytes = value.get_binary();
    std::vector<Value> list(bytes.size() / sizeof(Value));
    if (!list.empty()) std::memcpy(list.data(), bytes.data(), bytes.size());
    return to->Append().ok() && values->AppendValues(list.data(), static_cast<int64_t>(list.size())).ok();
  });
}

Result<std::shared_ptr<arrow::Array>> BuildColumn(const Column& column, const Cells& cells) {
  switch (column.type) {
    case Type::kText: {
      arrow::StringBuilder builder;
      return Build(&builder, cells, [](const json& value, auto* to) {
        return value.is_string() && to->Append(value.get_ref<const std::string&>()).ok();
      });
    }
    case Type::kInteger: {
      arrow::Int64Builder builder;
      return Build(&builder, cells, [](const json& value, auto* to) {
        return value.is_number_integer() && to->Append(value.get<int64_t>()).ok();
      });
    }
    case Type::kNumber: {
      arrow::DoubleBuilder builder;
      return Build(&builder, cells, [](const json& value, auto* to) {
        return value.is_number() && to->Append(value.get<double>()).ok();
      });
    }
    case Type::kTime: {
      arrow::TimestampBuilder builder(arrow::timestamp(arrow::TimeUnit::MICRO, "UTC"),
                                      arrow::default_memory_pool());
      return Build(&builder, cells, [](const json& value, auto* to) {
        return value.is_number_integer() && to->Append(value.get<int64_t>()).ok();
      });
    }
    case Type::kFlag: {
      arrow::BooleanBuilder builder;
      return Build(&builder, cells, [](const json& value, auto* to) {
        return value.is_boolean() && to->Append(value.get<bool>()).ok();
      });
    }
    case Type::kJson: {
      arrow::StringBuilder builder;
      return Build(&builder, cells, [](const json& value, auto* to) {
        if (value.is_null() || value.is_binary()) return false;
        return to
            ->Append(value.is_string() ? value.get_ref<const std::string&>()
                                       : value.dump(-1, ' ', false, json::error_handler_t::replace))
            .ok();
      });
    }
    case Type::kIntegers:
      return BuildLists<arrow::Int64Builder>(cells);
    case Type::kFloats:
      return BuildLists<arrow::FloatBuilder>(cells);
    case Type::kNumbers:
      return BuildLists<arrow::DoubleBuilder>(cells);
    case Type::kBytes: {
      arrow::BinaryBuilder builder;
      HEADRACE_ASSIGN(const auto bytes, Build(&builder, cells, [](const json& value, auto* to) {
                        if (!value.is_binary()) return false;
                        const auto& given = value.get_binary();
                        return to->Append(given.data(), static_cast<int32_t>(given.size())).ok();
                      }));
      return table::ConformArray(bytes, BlobField(column.name));
    }
  }
  return Status::Invalid("no such type");
}

}  // namespace

std::span<const Column> TraceColumns() { return kTraceColumns; }
std::span<const Column> ScoreColumns() { return kScoreColumns; }

std::string RowIdOf(std::string told) {
  for (const std::string_view prefix : {"chatcmpl-", "cmpl-", "resp_", "msg_"})
    if (told.starts_with(prefix)) told.erase(0, prefix.size());
  return told;
}

std::string EmptySelect(std::span<const Column> columns) {
  std::string list;
  for (const Column& column : columns)
    if (const char* type = SqlType(column.type); type != nullptr)
      list += (list.empty() ? "" : ", ") + std::string("null::") + type + " as \"" + column.name + "\"";
  return "select " + list + " where false";
}

std::shared_ptr<arrow::Schema> ArrowSchema(std::span<const Column> columns) {
  arrow::FieldVector fields;
  for (const Column& column : columns) fields.push_back(ArrowField(column));
  return arrow::schema(fields);
}

Result<std::shared_ptr<arrow::RecordBatch>> ToBatch(std::span<const Column> columns,
                                                    const std::vector<json>& rows) {
  const std::vector<Cells> cells = CellsOf(columns, rows);
  arrow::ArrayVector arrays;
  for (size_t i = 0; i < columns.size(); ++i) {
    HEADRACE_ASSIGN(auto array, BuildColumn(columns[i], cells[i]));
    arrays.push_back(std::move(array));
  }
  return arrow::RecordBatch::Make(ArrowSchema(columns), static_cast<int64_t>(rows.size()), arrays);
}

}  // namespace headrace::trace
