#include "trace/tables.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include "base/json.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

Result<table::CommitResult> CommitOnce(table::Catalog* catalog, const char* name,
                                       std::span<const Column> columns, const std::vector<json>& rows,
                                       const table::CommitOptions& options) {
  HEADRACE_ASSIGN(const auto table, OpenOrCreate(catalog, name, columns));
  HEADRACE_ASSIGN(const auto batch, ToBatch(columns, rows));
  HEADRACE_ASSIGN(const auto appender, table->StartAppend(batch->schema()->field_names(), options));
  HEADRACE_TRY(appender->Write(*batch));
  return appender->Commit();
}

}  // namespace

Result<std::shared_ptr<table::Table>> OpenOrCreate(table::Catalog* catalog, const char* name,
                                                   std::span<const Column> columns) {
  HEADRACE_ASSIGN(const table::Schema schema, table::SchemaFromArrow(*ArrowSchema(columns)));
  const table::CommitOptions options{.why = "filled by serving", .how = "headrace serve"};
  HEADRACE_ASSIGN(auto opened, catalog->OpenOrCreateTable(name, schema, options));
  // A table that an earlier program made lacks the columns that came later.
  HEADRACE_ASSIGN(const table::View view, opened->At());
  std::vector<table::Field> missing;
  for (const table::Field& field : schema.fields) {
    if (view.schema().Find(field.name) == nullptr) missing.push_back(field);
  }
  if (missing.empty()) return opened;
  const Status grown = opened->AddEmptyColumns(missing, options).status();
  if (!grown.ok() && !grown.Is(Code::kConflict)) return grown;  // Conflict: another was faster
  return opened;
}

int64_t LastSequence(const table::View& view, const std::string& writer) {
  const auto& writers = view.snapshot().writers;
  const auto found = writers.find(writer);
  return found == writers.end() ? -1 : found->second.sequence;
}

Result<std::optional<table::View>> Newest(const table::Catalog& catalog, const char* name) {
  const auto table = catalog.OpenTable(name);
  if (!table.ok() && table.status().Is(Code::kNotFound)) return std::optional<table::View>();
  if (!table.ok()) return table.status();
  HEADRACE_ASSIGN(table::View view, (*table)->At());
  return std::optional<table::View>(std::move(view));
}

Result<table::CommitResult> CommitTraces(table::Catalog* catalog, const std::string& rows) {
  const json list = ParseJson(rows);
  if (!list.is_array()) return Status::Invalid("the rows of `traces` are not a JSON list");
  return CommitOnce(catalog, kTraces, TraceColumns(), list.get<std::vector<json>>(),
                    {.why = "answers in a program", .how = "python"});
}

Result<table::CommitResult> CommitScore(table::Catalog* catalog, const json& score) {
  return CommitOnce(catalog, kScores, ScoreColumns(), {score}, {.why = "a score", .how = "headrace score"});
}

}  // namespace headrace::trace
