// For tests of tables: batches from JSON, tables as text.
#pragma once

#include <arrow/api.h>
#include <arrow/json/from_string.h>

#include <memory>
#include <string>

#include "store/memory_store.h"
#include "table/catalog.h"
#include "testing.h"

namespace headrace::testing {

inline std::shared_ptr<arrow::RecordBatch> BatchFromJson(const std::shared_ptr<arrow::Schema>& schema,
                                                         const std::string& json) {
  const auto structs = arrow::json::ArrayFromJSONString(arrow::struct_(schema->fields()), json).ValueOrDie();
  const auto batch = arrow::RecordBatch::FromStructArray(structs).ValueOrDie();
  return arrow::RecordBatch::Make(schema, batch->num_rows(), batch->columns());
}

inline std::shared_ptr<arrow::RecordBatchReader> ReaderOf(
    std::vector<std::shared_ptr<arrow::RecordBatch>> batches) {
  const auto schema = batches.at(0)->schema();
  return arrow::RecordBatchReader::Make(std::move(batches), schema).ValueOrDie();
}

inline Result<std::shared_ptr<arrow::Table>> ReadAll(const table::View& view,
                                                     const table::ScanOptions& options = {}) {
  HEADRACE_ASSIGN(const auto reader, view.Scan(options));
  auto table = reader->ToTable();
  if (!table.ok()) return Status::Io(table.status().ToString());
  return (*table)->CombineChunks().ValueOrDie();
}

inline Result<std::shared_ptr<table::Table>> MakeTable(table::Catalog* catalog, const std::string& name,
                                                       const std::shared_ptr<arrow::Schema>& schema) {
  HEADRACE_ASSIGN(auto converted, table::SchemaFromArrow(*schema));
  return catalog->CreateTable(name, std::move(converted));
}

}  // namespace headrace::testing
