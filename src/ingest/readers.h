// Data files as streams of record batches.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "ingest/walk.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::ingest {

// "-" reads standard input. Lines that are no JSON objects become errors ("file:17"), the others rows.
Result<std::shared_ptr<arrow::RecordBatchReader>> OpenJsonl(const std::string& path, const std::string& name,
                                                            std::vector<IngestError>* errors);
Result<std::shared_ptr<arrow::RecordBatchReader>> OpenParquet(const std::string& path);

}  // namespace headrace::ingest
