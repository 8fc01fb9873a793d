// Reads a query's result from DuckDB, restoring types that its Arrow export loses.
#pragma once

#include <arrow/record_batch.h>
#include <duckdb.hpp>

#include <memory>

#include "base/cancel.h"
#include "query/scan_function.h"

namespace headrace::query {

// `types`: the result's, as DuckDB names them. JSON and UUID are the extension types arrow.json and
// arrow.uuid (in the field's metadata, at any depth), names that occur twice are told apart ("id", "id_1"),
// and errors keep their kind. `held` lives as long as the reader.
std::shared_ptr<arrow::RecordBatchReader> ReadResult(std::shared_ptr<arrow::RecordBatchReader> inner,
                                                     const duckdb::vector<duckdb::LogicalType>& types,
                                                     std::shared_ptr<Session> session,
                                                     std::shared_ptr<void> held, StopToken stop);

// The rows for a table: sums of integers, which DuckDB gives 128 bits, as int64. Fails at one that does not
// fit.
std::shared_ptr<arrow::RecordBatchReader> ForTable(std::shared_ptr<arrow::RecordBatchReader> rows);

}  // namespace headrace::query
