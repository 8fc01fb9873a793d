// Image bytes that come as values of rows, on their way into a table's blob columns: what is known of the
// image (media type, size, orientation) is read from its header and stored beside it.
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
