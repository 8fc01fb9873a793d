// Parquet files as record batches.
#pragma once

#include <memory>
#include <string>

#include <arrow/type_fwd.h>

#include "base/status.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::ingest {

Result<std::shared_ptr<arrow::RecordBatchReader>> OpenParquet(const std::string& path);

}  // namespace headrace::ingest
