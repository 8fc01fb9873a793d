// tail: what a table holds beyond its newest version: rows that are still in spools of this machine.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/catalog.h"

namespace headrace::trace {

// Of one of SpoolTables(), with the schema or without, whose newest version is `view`: rows that no commit
// has, and those of what runs now (finish is null). None of a person's table that bears the plain name.
// Conflict: the version is not the newest any more. Where the catalog is in a bucket, those of other machines
// are among them, some seconds late (live.h).
Result<std::shared_ptr<arrow::RecordBatch>> Tail(const table::Catalog& catalog, const std::string& table,
                                                 const table::View& view);

// The same of this machine's spools alone.
Result<std::shared_ptr<arrow::RecordBatch>> LocalTail(const table::Catalog& catalog, const std::string& table,
                                                      const table::View& view);

// The first as a function of the catalog, as SQL wants it (query::SqlEngineOptions::tail), for these tables.
std::function<Result<std::shared_ptr<arrow::RecordBatch>>(const std::string&, const table::View&)> TailOf(
    std::shared_ptr<table::Catalog> catalog);
std::vector<std::string> TailedTables();

}  // namespace headrace::trace
