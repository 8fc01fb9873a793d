// tables: those that spools fill, made and grown, and written to by programs that run no spool.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "table/catalog.h"
#include "trace/columns.h"
#include "trace/kinds.h"

namespace headrace::trace {

// What a table of SpoolTables() is called in a catalog.
std::string SystemName(const std::string& name);
// Gives a table that an earlier Headrace made beside people's its name in the schema `hr`; nothing where
// there is none, or a person's.
Status CarryOver(table::Catalog* catalog, const std::string& name);
// The table, carried over or made where it is missing, with the columns that it lacks.
// `name` is one of SpoolTables().
Result<std::shared_ptr<table::Table>> OpenOrCreate(table::Catalog* catalog, const std::string& name);
// The same of one that no spool fills.
Result<std::shared_ptr<table::Table>> OpenOrCreate(table::Catalog* catalog, const SpoolTable& table);

// The sequence of a writer's last commit; -1: none is known.
int64_t LastSequence(const table::View& view, const std::string& writer);
// What it is called in this catalog: as above, or plainly where it was not carried over yet; nothing where
// there is none.
Result<std::optional<std::string>> NameIn(const table::Catalog& catalog, const std::string& name);
// The newest version, also of a table that was not carried over yet; nothing where there is no such table.
Result<std::optional<table::View>> Newest(const table::Catalog& catalog, const char* name);

// Rows of a system table, which is made or grown as OpenOrCreate does, committed at once.
Result<table::CommitResult> CommitRows(table::Catalog* catalog, const SpoolTable& table,
                                       const std::vector<nlohmann::json>& rows,
                                       const table::CommitOptions& options);
// Whole rows of `traces` as a JSON list, committed at once.
Result<table::CommitResult> CommitTraces(table::Catalog* catalog, const std::string& rows);

// Scores as FinishScore leaves them, committed at once.
Result<table::CommitResult> CommitScores(table::Catalog* catalog, const std::vector<nlohmann::json>& scores,
                                         const table::CommitOptions& options);
// One.
Result<table::CommitResult> CommitScore(table::Catalog* catalog, const nlohmann::json& score);

}  // namespace headrace::trace
