#include "trace/tables.h"

#include <arrow/record_batch.h>
#include <arrow/type.h>

#include "base/check.h"
#include "base/json.h"
#include "table/sort_rows.h"
#include "trace/kinds.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

// Whether the table that bears the plain name is one that an earlier Headrace filled: a person's has other
// columns.
Result<bool> IsOurs(const table::Catalog& catalog, const SpoolTable& spooled) {
  if (spooled.carried == 0) return false;
  const auto table = catalog.OpenTable(spooled.name);
  if (table.status().Is(Code::kNotFound)) return false;
  if (!table.ok()) return table.status();
  HEADRACE_ASSIGN(const table::View view, (*table)->At());
  HEADRACE_ASSIGN(const table::Schema ours, table::SchemaFromArrow(*ArrowSchema(spooled.columns())));
  size_t known = 0;
  for (size_t i = 0; i < ours.fields.size(); ++i) {
    const table::Field* there = view.schema().Find(ours.fields[i].name);
    if (there != nullptr && !there->type.Equals(ours.fields[i].type)) return false;
    known += there != nullptr && i < spooled.carried;
  }
  // Of the first columns some came later; people may have added others.
  return known >= (spooled.carried + 1) / 2;
}

}  // namespace

std::string SystemName(const std::string& name) { return std::string(table::kSystemSchema) + name; }

Result<std::shared_ptr<table::Table>> OpenOrCreate(table::Catalog* catalog, const std::string& name) {
  const size_t table = FindTable(name.c_str());
  HEADRACE_CHECK(table < SpoolTables().size());
  return OpenOrCreate(catalog, SpoolTables()[table]);
}

Result<std::shared_ptr<table::Table>> OpenOrCreate(table::Catalog* catalog, const SpoolTable& facts) {
  HEADRACE_ASSIGN(const table::Schema schema, table::SchemaFromArrow(*ArrowSchema(facts.columns())));
  const table::CommitOptions options{.why = "filled from spools", .how = "headrace"};
  const std::string own = SystemName(facts.name);
  const Status there = catalog->OpenTable(own).status();
  if (!there.ok() && !there.Is(Code::kNotFound)) return there;
  if (!there.ok()) HEADRACE_TRY(CarryOver(catalog, facts.name));
  HEADRACE_ASSIGN(auto opened, catalog->OpenOrCreateSystemTable(own, schema, options));
  // A table that an earlier program made lacks the columns that came later.
  HEADRACE_ASSIGN(const table::View view, opened->At());
  const std::vector<std::string> key(facts.sort_key.begin(), facts.sort_key.end());
  if (!there.ok() && !key.empty() && table::SortKey(view.snapshot()).empty()) {
    const Status sorted = opened->SortBy(key, options).status();
    if (!sorted.ok() && !sorted.Is(Code::kConflict)) return sorted;
  }
  std::vector<table::Field> missing;
  for (const table::Field& field : schema.fields) {
    if (view.schema().Find(field.name) == nullptr) missing.push_back(field);
  }
  if (missing.empty()) return opened;
  const Status grown = opened->AddEmptyColumns(missing, options).status();
  if (!grown.ok() && !grown.Is(Code::kConflict)) return grown;  // Conflict: another was faster
  return opened;
}

Status CarryOver(table::Catalog* catalog, const std::string& name) {
  const size_t known = FindTable(name.c_str());
  if (known == SpoolTables().size() || SpoolTables()[known].carried == 0) return Status::Ok();
  HEADRACE_ASSIGN(const table::RefValue plain, catalog->refs().Get(name));
  if (plain.kind != table::RefKind::kTable) return Status::Ok();
  HEADRACE_ASSIGN(const bool ours, IsOurs(*catalog, SpoolTables()[known]));
  if (!ours) return Status::Ok();
  return catalog->MoveTable(name, SystemName(name), {.why = "carried over to the schema hr"});
}

Result<std::optional<std::string>> NameIn(const table::Catalog& catalog, const std::string& name) {
  std::string own = SystemName(name);
  const Status opened = catalog.OpenTable(own).status();
  if (opened.ok()) return std::optional<std::string>(std::move(own));
  if (!opened.Is(Code::kNotFound)) return opened;
  const size_t known = FindTable(name.c_str());
  if (known == SpoolTables().size()) return std::optional<std::string>();
  HEADRACE_ASSIGN(const bool older, IsOurs(catalog, SpoolTables()[known]));
  return older ? std::optional<std::string>(name) : std::nullopt;
}

int64_t LastSequence(const table::View& view, const std::string& writer) {
  const auto& writers = view.snapshot().writers;
  const auto found = writers.find(writer);
  return found == writers.end() ? -1 : found->second.sequence;
}

Result<std::optional<table::View>> Newest(const table::Catalog& catalog, const char* name) {
  HEADRACE_ASSIGN(const auto called, NameIn(catalog, name));
  if (!called) return std::optional<table::View>();
  HEADRACE_ASSIGN(const auto table, catalog.OpenTable(*called));
  HEADRACE_ASSIGN(table::View view, table->At());
  return std::optional<table::View>(std::move(view));
}

Result<table::CommitResult> CommitRows(table::Catalog* catalog, const SpoolTable& facts,
                                       const std::vector<json>& rows, const table::CommitOptions& options) {
  HEADRACE_ASSIGN(const auto table, OpenOrCreate(catalog, facts));
  HEADRACE_ASSIGN(const auto batch, ToBatch(facts.columns(), rows));
  HEADRACE_ASSIGN(const auto appender, table->StartAppend(batch->schema()->field_names(), options));
  HEADRACE_TRY(appender->Write(*batch));
  return appender->Commit();
}

Result<table::CommitResult> CommitTraces(table::Catalog* catalog, const std::string& rows) {
  const json list = ParseJson(rows);
  if (!list.is_array()) return Status::Invalid("the rows of `traces` are not a JSON list");
  return CommitRows(catalog, SpoolTables()[FindTable(kTraces)], list.get<std::vector<json>>(),
                    {.why = "answers in a program", .how = "python"});
}

Result<table::CommitResult> CommitScores(table::Catalog* catalog, const std::vector<json>& scores,
                                         const table::CommitOptions& options) {
  return CommitRows(catalog, SpoolTables()[FindTable(kScores)], scores, options);
}

Result<table::CommitResult> CommitScore(table::Catalog* catalog, const json& score) {
  return CommitScores(catalog, {score}, {.why = "a score", .how = "headrace score"});
}

}  // namespace headrace::trace
