#include "trace/queue_rows.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/scalar.h>
#include <arrow/type.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "table/arrow_bridge.h"
#include "trace/tables.h"

namespace headrace::trace {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kShownBytes = 16 << 10;  // of a text

constexpr Column kItemColumns[] = {
    {"queue", Type::kText},  // hr.queues.id
    {"number", Type::kInteger}, {"target_kind", Type::kText},
    {"target", Type::kText},    {"shown", Type::kText},  // JSON, by column
};

constexpr SpoolTable kItemTable = {kQueueItems, [] { return std::span<const Column>(kItemColumns); }, {}, 0};

ordered_json Shown(const arrow::Array& array, int64_t row);

ordered_json ShownStruct(const arrow::StructArray& cells, int64_t row) {
  ordered_json object = ordered_json::object();
  // Of a blob the facts, not the place where it lies.
  const bool blob = cells.struct_type()->GetFieldIndex("media_type") >= 0 &&
                    cells.struct_type()->GetFieldIndex("pack") >= 0;
  for (int i = 0; i < cells.num_fields(); ++i) {
    const std::string& name = cells.struct_type()->field(i)->name();
    if (blob && name != "media_type" && name != "width" && name != "height" && name != "length") continue;
    ordered_json value = Shown(*cells.field(i), row);
    if (!value.is_null()) object[name] = std::move(value);
  }
  return object;
}

ordered_json Shown(const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return nullptr;
  switch (array.type_id()) {
    case arrow::Type::BOOL:
      return static_cast<const arrow::BooleanArray&>(array).Value(row);
    case arrow::Type::INT64:
      return static_cast<const arrow::Int64Array&>(array).Value(row);
    case arrow::Type::INT32:
      return static_cast<const arrow::Int32Array&>(array).Value(row);
    case arrow::Type::DOUBLE: {
      const double value = static_cast<const arrow::DoubleArray&>(array).Value(row);
      return std::isfinite(value) ? ordered_json(value) : ordered_json(std::to_string(value));
    }
    case arrow::Type::STRING: {
      std::string text = static_cast<const arrow::StringArray&>(array).GetString(row);
      if (text.size() <= kShownBytes) return text;
      size_t end = kShownBytes;
      while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
      return text.substr(0, end) + " … (" + std::to_string(text.size()) + " bytes)";
    }
    case arrow::Type::BINARY:
      return ordered_json{{"bytes", static_cast<const arrow::BinaryArray&>(array).value_length(row)}};
    case arrow::Type::STRUCT:
      return ShownStruct(static_cast<const arrow::StructArray&>(array), row);
    default: {
      const auto scalar = array.GetScalar(row);
      return scalar.ok() ? ordered_json((*scalar)->ToString()) : ordered_json(nullptr);
    }
  }
}

// Where the items' targets stand.
struct TargetColumn {
  int index = -1;
  std::string kind;    // "": it stands before the id
  std::string prefix;  // of the id: "photos@v7:"
};

Result<TargetColumn> FindTargets(const arrow::Schema& schema, const std::vector<std::string>& inputs) {
  if (const int index = schema.GetFieldIndex("target"); index >= 0) return TargetColumn{index, "", ""};
  const std::string one = inputs.size() == 1 ? inputs[0] : "";
  if (const int index = schema.GetFieldIndex(std::string(table::kRowIdColumn));
      index >= 0 && !one.empty() && schema.field(index)->type()->id() == arrow::Type::INT64)
    return TargetColumn{index, "row", one + ":"};
  std::string table = one.substr(0, one.rfind('@'));
  if (table::IsSystemName(table)) table.erase(0, table::kSystemSchema.size());
  const int index = schema.GetFieldIndex("id");
  if (index >= 0 && (table == kTraces || table == "runs"))
    return TargetColumn{index, table == kTraces ? "request" : "run", ""};
  return Status::Invalid(
      "nothing says what the items are: select _row_id of one table, the id of traces or runs, or a column "
      "`target` such as 'row:photos@v7:42'");
}

std::string CellText(const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return "";
  if (array.type_id() == arrow::Type::INT64)
    return std::to_string(static_cast<const arrow::Int64Array&>(array).Value(row));
  if (array.type_id() == arrow::Type::STRING)
    return static_cast<const arrow::StringArray&>(array).GetString(row);
  return "";
}

// "photos@7" as people write it.
std::vector<std::string> Pinned(const std::vector<std::string>& inputs) {
  std::vector<std::string> pinned;
  for (const std::string& input : inputs) {
    const size_t at = input.rfind('@');
    pinned.push_back(input.substr(0, at) + "@v" + input.substr(at + 1));
  }
  return pinned;
}

std::string WithRowIds(const std::string& sql) {
  constexpr std::string_view kSelect = "select ";
  std::string head = sql.substr(0, kSelect.size());
  std::transform(head.begin(), head.end(), head.begin(), [](unsigned char c) { return std::tolower(c); });
  return head == kSelect ? "select _row_id, " + sql.substr(kSelect.size()) : "";
}

Result<std::vector<QueueItem>> ReadItems(arrow::RecordBatchReader* rows, const TargetColumn& where) {
  std::vector<QueueItem> items;
  std::set<std::string> seen;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) return items;
    for (int64_t row = 0; row < batch->num_rows(); ++row) {
      QueueItem item;
      item.number = static_cast<int64_t>(items.size());
      const std::string told = CellText(*batch->column(where.index), row);
      HEADRACE_ASSIGN(item.target, ParseTarget(where.kind, where.prefix + told));
      if (!seen.insert(item.target.kind + ":" + item.target.id).second)
        return Status::Invalid("the query gives " + item.target.kind + " " + item.target.id + " twice");
      for (int i = 0; i < batch->num_columns(); ++i)
        if (i != where.index) item.shown[batch->schema()->field(i)->name()] = Shown(*batch->column(i), row);
      items.push_back(std::move(item));
    }
  }
}

}  // namespace

Result<std::vector<QueueItem>> ItemsOf(const std::string& sql, const RunSql& run,
                                       std::vector<std::string>* inputs) {
  HEADRACE_ASSIGN(SqlRows query, run(sql));
  auto found = FindTargets(*query.rows->schema(), Pinned(query.inputs));
  if (!found.ok()) {
    // A plain select of one table's rows, which does not say which they are: with their ids before the rest.
    const std::string with_ids = WithRowIds(sql);
    auto again = with_ids.empty() ? Result<SqlRows>(found.status()) : run(with_ids);
    if (!again.ok()) return found.status();
    query = std::move(*again);
    found = FindTargets(*query.rows->schema(), Pinned(query.inputs));
  }
  HEADRACE_TRY(found.status());
  *inputs = Pinned(query.inputs);
  return ReadItems(query.rows.get(), *found);
}

Status WriteItems(table::Catalog* catalog, const Queue& queue, const std::vector<QueueItem>& items,
                  const table::CommitOptions& options) {
  std::vector<json> rows;
  for (const QueueItem& item : items)
    rows.push_back({{"queue", queue.id.ToString()},
                    {"number", item.number},
                    {"target_kind", item.target.kind},
                    {"target", item.target.id},
                    {"shown", item.shown.dump(-1, ' ', false, json::error_handler_t::replace)}});
  return CommitRows(catalog, kItemTable, rows, options).status();
}

Result<std::vector<json>> ReadRows(const table::Catalog& catalog, const SpoolTable& table,
                                   const std::string& where) {
  std::vector<json> rows;
  HEADRACE_ASSIGN(const auto view, Newest(catalog, table.name));
  if (!view) return rows;
  HEADRACE_ASSIGN(const auto reader, view->Scan({.where = where}));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) return rows;
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      json row = json::object();
      for (const Column& column : table.columns()) {
        const auto cells = batch->GetColumnByName(column.name);
        if (!cells || cells->IsNull(i)) continue;
        if (column.type == Type::kText && cells->type_id() == arrow::Type::STRING)
          row[column.name] = static_cast<const arrow::StringArray&>(*cells).GetString(i);
        if (cells->type_id() == arrow::Type::INT64)
          row[column.name] = static_cast<const arrow::Int64Array&>(*cells).Value(i);
        if (cells->type_id() == arrow::Type::TIMESTAMP)
          row[column.name] = static_cast<const arrow::TimestampArray&>(*cells).Value(i);
      }
      rows.push_back(std::move(row));
    }
  }
}

Result<std::vector<QueueItem>> QueueItems(const table::Catalog& catalog, const Queue& queue) {
  HEADRACE_ASSIGN(const auto rows, ReadRows(catalog, kItemTable, "queue = '" + queue.id.ToString() + "'"));
  std::vector<QueueItem> items;
  for (const json& row : rows)
    items.push_back({row.value("number", int64_t{0}),
                     {row.value("target_kind", ""), row.value("target", "")},
                     ParseJsonInOrder(row.value("shown", ""))});
  std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.number < b.number; });
  if (static_cast<int64_t>(items.size()) != queue.items)
    return Status::Corrupt("the queue '" + queue.name + "' has " + std::to_string(items.size()) +
                           " items of " + std::to_string(queue.items));
  return items;
}

}  // namespace headrace::trace
