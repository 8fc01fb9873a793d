#include "trace/find.h"

#include <arrow/array/array_binary.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "base/json.h"
#include "table/arrow_bridge.h"
#include "trace/committer.h"
#include "trace/replay.h"
#include "trace/tables.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

// Whether a text may be put between quotes in a condition without escaping.
bool IsPlain(const std::string& word) {
  return !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
  });
}

// Rows that have ended, of all spools.
Status EachInSpools(const table::Catalog& catalog, const std::function<void(const Rows& rows)>& each) {
  for (const std::string& folder : SpoolFolders(SpoolRoot(catalog))) {
    Replay replay;
    Rows rows = NoRows();
    const auto report = ReadSpool(folder, {}, [&](const Record& record) {
      replay.Take(record, &rows);
      if (Count(rows) > 0) each(std::exchange(rows, NoRows()));
      return Status::Ok();
    });
    HEADRACE_TRY(report.status());
  }
  return Status::Ok();
}

// The first row of a table for which `where` holds: its texts.
Result<std::optional<json>> FindInTable(const table::Catalog& catalog, const char* name,
                                        const std::string& where) {
  HEADRACE_ASSIGN(const auto view, Newest(catalog, name));
  if (!view) return std::optional<json>();
  HEADRACE_ASSIGN(const auto reader, view->Scan({.where = where, .limit = 1}));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) return std::optional<json>();
    if (batch->num_rows() == 0) continue;
    json row = json::object();
    for (int i = 0; i < batch->num_columns(); ++i) {
      if (batch->column(i)->type_id() != arrow::Type::STRING || batch->column(i)->IsNull(0)) continue;
      row[batch->schema()->field(i)->name()] =
          static_cast<const arrow::StringArray&>(*batch->column(i)).GetString(0);
    }
    return std::optional<json>(std::move(row));
  }
}

}  // namespace

// The spools first: what is committed meanwhile is in the table by then.
Result<std::optional<json>> FindTrace(const table::Catalog& catalog, const std::string& id) {
  if (!IsPlain(id)) return std::optional<json>();
  std::optional<json> found;
  HEADRACE_TRY(EachInSpools(catalog, [&](const Rows& rows) {
    for (const json& row : rows[FindTable(kTraces)])
      if (row.value("id", "") == id) found = row;
  }));
  if (found) return found;
  return FindInTable(catalog, kTraces, "id = '" + id + "'");
}

Result<bool> HasScore(const table::Catalog& catalog, const std::string& request, const std::string& name) {
  if (!IsPlain(request) || !IsPlain(name)) return false;
  bool found = false;
  HEADRACE_TRY(EachInSpools(catalog, [&](const Rows& rows) {
    for (const json& row : rows[FindTable(kScores)])
      found = found || (row.value("request", "") == request && row.value("name", "") == name);
  }));
  if (found) return true;
  HEADRACE_ASSIGN(const auto row,
                  FindInTable(catalog, kScores, "request = '" + request + "' and name = '" + name + "'"));
  return row.has_value();
}

}  // namespace headrace::trace
