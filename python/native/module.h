// What the parts of the native module share: rows on their way, and a commit's options and outcome.
#pragma once

#include <arrow/record_batch.h>
#include <nanobind/nanobind.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bridge.h"
#include "cells.h"
#include "table/catalog.h"

namespace headrace::python {

// A reader that several of Python's threads may ask at a time: each batch goes to one of them.
class SharedReader final : public arrow::RecordBatchReader {
 public:
  explicit SharedReader(std::shared_ptr<arrow::RecordBatchReader> reader) : reader_(std::move(reader)) {}
  std::shared_ptr<arrow::Schema> schema() const override { return reader_->schema(); }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    const std::lock_guard lock(mutex_);
    return reader_->ReadNext(batch);
  }
  arrow::Status Close() override {
    const std::lock_guard lock(mutex_);
    return reader_->Close();
  }

 private:
  std::shared_ptr<arrow::RecordBatchReader> reader_;
  std::mutex mutex_;
};

// Rows that stream; `view` where they come from a table, whose blobs can be fetched.
struct Reader {
  Reader(std::shared_ptr<arrow::RecordBatchReader> rows, std::shared_ptr<table::View> of)
      : batches(std::make_shared<SharedReader>(std::move(rows))), view(std::move(of)) {}
  std::shared_ptr<arrow::RecordBatchReader> batches;
  std::shared_ptr<table::View> view;
};

table::CommitOptions CommitOf(const std::string& why, const std::string& writer, int64_t sequence,
                              const StopToken& stop, int64_t since = 0);
nb::dict ToDict(const table::CommitResult& result);
table::Schema SchemaFromTypes(const std::vector<std::pair<std::string, std::string>>& columns);

void BindTable(nb::module_& m);    // tables.cc: versions and tables
void BindInspect(nb::module_& m);  // inspect.cc: what is told of tables
// upkeep.cc: retention, garbage collection, verification. Reports as dicts, one a table.
void BindUpkeep(nb::module_& m, nb::class_<table::Table>& table);
std::vector<nb::dict> CollectAll(const table::Catalog& catalog, std::optional<int64_t> keep_us,
                                 int64_t grace_us, bool dry_run);
std::vector<nb::dict> VerifyAll(const table::Catalog& catalog, bool newest);
void BindRows(nb::module_& m);     // rows.cc: batches and readers
void BindColumns(nb::module_& m);  // columns.cc: rows made of Python's columns
void BindCatalog(nb::module_& m);  // catalog.cc: catalogs and SQL
void BindRun(nb::module_& m);      // run.cc: what a run logs

}  // namespace headrace::python
