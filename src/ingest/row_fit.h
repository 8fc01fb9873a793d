// Which rows of a file fit the types of the columns.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/conform.h"

namespace headrace::ingest {

using Batches = std::vector<std::shared_ptr<arrow::RecordBatch>>;
// Rows that do not fit, by their number in the file.
using Refused = std::map<int64_t, table::RowFault>;

// The rows that fit the fields, in their types; the others are `refused`. `first`: the number of the first
// row.
Result<Batches> RowsThatFit(const Batches& batches, int64_t first, const std::vector<table::Field>& fields,
                            Refused* refused);

// "tensor<float32>[384]" for a column of lists of float32 or float16 that all have one length, more than 1,
// and no nulls; else "".
std::string TensorOf(const Batches& rows, const std::string& column);

}  // namespace headrace::ingest
