// Writes a query's rows to a self-contained Parquet file: blobs with their bytes.
#pragma once

#include <arrow/record_batch.h>

#include <string>

#include "base/cancel.h"
#include "store/object_store.h"

namespace headrace::query {

// Writes all rows; blob columns (by their shape) hold their bytes in `inline`, read from the catalog's store
// about 32 MB at a time, and intervals are durations in microseconds (Invalid for months). Rows written. A
// file that could not be finished is removed.
Result<int64_t> WriteParquetWithBytes(arrow::RecordBatchReader* rows, store::ObjectStore* store,
                                      const std::string& path, const StopToken& stop);

}  // namespace headrace::query
