#include "cli/trace_rows.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <set>

#include "base/json.h"
#include "table/arrow_bridge.h"
#include "trace/columns.h"
#include "trace/metric_rows.h"
#include "trace/tables.h"
#include "trace/tail.h"

namespace headrace::cli {
namespace {

constexpr size_t kShortestBeginning = 6;  // of an id that is not written out

Status NoTrace(const std::string& what) {
  return Status::NotFound(what + "; `headrace trace ls` lists them");
}

}  // namespace

bool TraceRows::IsNull(size_t row, const char* column) const {
  const auto& [batch, at] = rows_[row];
  const auto array = batch->GetColumnByName(column);
  return !array || array->IsNull(at);
}

std::string TraceRows::Text(size_t row, const char* column) const {
  if (IsNull(row, column)) return "";
  const auto& [batch, at] = rows_[row];
  return static_cast<const arrow::StringArray&>(*batch->GetColumnByName(column)).GetString(at);
}

int64_t TraceRows::Integer(size_t row, const char* column) const {
  if (IsNull(row, column)) return -1;
  const auto& [batch, at] = rows_[row];
  return static_cast<const arrow::Int64Array&>(*batch->GetColumnByName(column)).Value(at);
}

double TraceRows::Number(size_t row, const char* column) const {
  if (IsNull(row, column)) return -1;
  const auto& [batch, at] = rows_[row];
  return static_cast<const arrow::DoubleArray&>(*batch->GetColumnByName(column)).Value(at);
}

trace::SpanFacts TraceRows::Facts(size_t row) const {
  trace::SpanFacts facts;
  facts.span_id = Text(row, "span_id");
  facts.parent = Text(row, "parent");
  facts.started = Integer(row, "started");
  facts.ended = Integer(row, "ended");
  facts.prompt_tokens = Integer(row, "prompt_tokens");
  facts.answer_tokens = Integer(row, "answer_tokens");
  facts.cost = Number(row, "cost");
  facts.queue = Number(row, "queue_seconds");
  facts.prefill = Number(row, "prefill_seconds");
  facts.decode = Number(row, "decode_seconds");
  facts.first_token = Number(row, "first_token_seconds");
  return facts;
}

Result<TraceReader> TraceReader::Open(const std::shared_ptr<table::Catalog>& catalog) {
  TraceReader reader;
  reader.catalog_ = catalog;
  HEADRACE_ASSIGN(const auto name, trace::NameIn(*catalog, trace::kTraces));
  if (!name) return Status::NotFound("no trace was recorded in " + catalog->Describe());
  reader.table_ = *name;
  HEADRACE_ASSIGN(const auto table, catalog->OpenTable(*name));
  HEADRACE_ASSIGN(const table::View view, table->At());
  for (const table::Field& field : view.schema().fields) reader.columns_.push_back(field.name);
  HEADRACE_ASSIGN(reader.engine_, query::SqlEngine::Open(catalog, {.tailed = trace::TailedTables(),
                                                                   .tail = trace::TailOf(catalog)}));
  return reader;
}

std::string TraceReader::Column(const char* name, const char* type) const {
  const bool there = std::find(columns_.begin(), columns_.end(), name) != columns_.end();
  return there ? "\"" + std::string(name) + "\"" : std::string("null::") + type;
}

Result<std::vector<std::string>> TraceReader::Ids(const std::string& rest,
                                                  const std::optional<std::string>& param) {
  query::QueryOptions options;
  if (param) options.params.push_back({"1", *param});
  HEADRACE_ASSIGN(
      const auto rows,
      engine_->Query("select coalesce(trace_id, id) as trace from " + table_ + " " + rest, options));
  std::vector<std::string> ids;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) return ids;
    const auto& column = static_cast<const arrow::StringArray&>(*batch->column(0));
    for (int64_t row = 0; row < column.length(); ++row) ids.push_back(column.GetString(row));
  }
}

Result<std::string> TraceReader::Find(const std::string& told) {
  if (told == "@last") {
    HEADRACE_ASSIGN(const auto newest, Newest("", 1));
    if (newest.empty()) return NoTrace("there is no trace");
    return newest[0];
  }
  const std::string id = trace::RowIdOf(told);
  HEADRACE_ASSIGN(const auto exact, Ids("where coalesce(trace_id, id) = ? group by 1 limit 1", id));
  if (!exact.empty()) return exact[0];
  HEADRACE_ASSIGN(const auto row, Ids("where id = ? group by 1 limit 1", id));
  if (!row.empty()) return row[0];
  if (id.size() >= kShortestBeginning) {
    HEADRACE_ASSIGN(const auto begun,
                    Ids("where starts_with(coalesce(trace_id, id), ?) group by 1 limit 2", id));
    if (begun.size() > 1)
      return Status::Invalid("more than one trace's id begins with '" + id + "'; write more of it");
    if (begun.size() == 1) return begun[0];
    HEADRACE_ASSIGN(const auto rows, Ids("where starts_with(id, ?) group by 1 limit 2", id));
    if (rows.size() > 1)
      return Status::Invalid("more than one request's id begins with '" + id + "'; write more of it");
    if (rows.size() == 1) return rows[0];
  }
  return NoTrace("there is no trace '" + told + "'");
}

Result<std::vector<std::string>> TraceReader::Newest(const std::string& where, int64_t limit) {
  return Ids((where.empty() ? "" : "where (" + where + ")") +
                 " group by 1 order by max(started) desc nulls last, 1 limit " + std::to_string(limit),
             std::nullopt);
}

Result<TraceRows> TraceReader::Read(const std::string& trace, bool details) {
  std::string list = "coalesce(trace_id, id) as trace, id, coalesce(" + Column("span_id", "varchar") +
                     ", id) as span_id, coalesce(" + Column("parent", "varchar") +
                     ", parent_span_id) as parent, coalesce(" + Column("name", "varchar") +
                     ", endpoint) as name, epoch_us(started) as started, epoch_us(ended) as ended";
  for (const char* name : {"kind", "operation", "service", "model", "finish", "error"})
    list += ", " + Column(name, "varchar") + " as \"" + name + "\"";
  for (const char* name : {"prompt_tokens", "answer_tokens"})
    list += ", " + Column(name, "bigint") + " as \"" + name + "\"";
  for (const char* name :
       {"cost", "queue_seconds", "prefill_seconds", "decode_seconds", "first_token_seconds"})
    list += ", " + Column(name, "double") + " as \"" + name + "\"";
  if (details)
    for (const char* name : kDetails) list += ", " + Column(name, "varchar") + " as \"" + name + "\"";
  query::QueryOptions options;
  options.params.push_back({"1", trace});
  HEADRACE_ASSIGN(
      const auto reader,
      engine_->Query("select " + list + " from " + table_ + " where coalesce(trace_id, id) = ?", options));
  TraceRows rows;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) return rows;
    for (int64_t row = 0; row < batch->num_rows(); ++row) rows.rows_.emplace_back(batch, row);
  }
}

Result<std::map<std::string, Picture>> TraceReader::Pictures(const TraceRows& rows, size_t most) const {
  std::set<std::string> wanted;
  for (size_t row = 0; row < rows.size(); ++row) {
    const auto list = ParseJson(rows.Text(row, "media"));
    if (!list.is_array()) continue;
    for (const auto& entry : list)
      if (entry.is_object() && entry.value("type", "").starts_with("image/"))
        wanted.insert(entry.value("sha256", ""));
  }
  std::map<std::string, Picture> pictures;
  HEADRACE_ASSIGN(const auto media, trace::NewestRows::Of(*catalog_, trace::kMedia));
  if (wanted.empty()) return pictures;
  std::string where;
  for (const std::string& sum : wanted) where += (where.empty() ? "sha256 in ('" : ", '") + sum + "'";
  HEADRACE_TRY(
      media.Each({"sha256", "format", "data"}, where + ")", {}, [&](const arrow::RecordBatch& batch) {
        const auto text = [&](const char* name, int64_t row) {
          return static_cast<const arrow::StringArray&>(*batch.GetColumnByName(name)).GetString(row);
        };
        for (int64_t row = 0; row < batch.num_rows(); ++row) {
          const std::string sum = text("sha256", row);
          if (!wanted.contains(sum) || pictures.contains(sum)) continue;
          HEADRACE_ASSIGN(auto bytes, media.Bytes(batch.GetColumnByName("data"), row));
          if (!bytes || bytes->size() > most) continue;
          most -= bytes->size();
          pictures[sum] = {text("format", row), std::move(*bytes)};
        }
        return Status::Ok();
      }));
  return pictures;
}

}  // namespace headrace::cli
