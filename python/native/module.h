// What the parts of the native module share: rows on their way, and a commit's options and outcome.
#pragma once

#include <arrow/record_batch.h>
#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bridge.h"
#include "cells.h"
#include "table/catalog.h"

namespace headrace::python {

// Rows that stream; `view` where they come from a table, whose blobs can be fetched.
struct Reader {
  std::shared_ptr<arrow::RecordBatchReader> batches;
  std::shared_ptr<table::View> view;
};

table::CommitOptions CommitOf(const std::string& why, const std::string& writer, int64_t sequence,
                              const StopToken& stop);
nb::dict ToDict(const table::CommitResult& result);
table::Schema SchemaFromTypes(const std::vector<std::pair<std::string, std::string>>& columns);

void BindTable(nb::module_& m);    // tables.cc: versions and tables
void BindInspect(nb::module_& m);  // inspect.cc: what is told of tables
void BindRows(nb::module_& m);     // rows.cc: batches and readers
void BindColumns(nb::module_& m);  // columns.cc: rows made of Python's columns
void BindCatalog(nb::module_& m);  // catalog.cc: catalogs and SQL

}  // namespace headrace::python
