// CSV and its relatives as record batches.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "ingest/csv_text.h"
#include "ingest/ingest.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::ingest {

// `wanted`: columns whose type is given; the others' come from all of their values. Rows that do not fit
// become errors ("file:17"), the others rows. The file is read twice.
Result<std::shared_ptr<arrow::RecordBatchReader>> OpenCsv(const std::string& path, const std::string& name,
                                                          const CsvOptions& options,
                                                          const arrow::Schema& wanted,
                                                          std::vector<IngestError>* errors);

}  // namespace headrace::ingest
