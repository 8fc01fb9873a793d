// Image bytes given as values: the media type, size and orientation are read from the header and stored in
// the blob cell.
#pragma once

#include <memory>

#include <arrow/type_fwd.h>

#include "table/schema.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::ingest {

// The same rows. Columns of bytes become blobs where `schema` has a blob of that name, or where it has none
// and the field says that it holds media (metadata "headrace.media"). Bytes that are no image become blobs
// without facts.
std::shared_ptr<arrow::RecordBatchReader> WithImageFacts(std::shared_ptr<arrow::RecordBatchReader> rows,
                                                         const table::Schema& schema);

}  // namespace headrace::ingest
