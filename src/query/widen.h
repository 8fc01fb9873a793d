// Maps our types to DuckDB's: a type that DuckDB lacks becomes the nearest one that holds every value, and an
// extension type that DuckDB drops is restored.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"

namespace headrace::query {

// float16 as float32, decimals of more than 38 digits as text, nanosecond durations as microseconds: alone
// and inside lists, maps, tensors and structs.
std::shared_ptr<arrow::DataType> Widened(const std::shared_ptr<arrow::DataType>& type);
// Invalid, with the column, for a time that is no whole number of microseconds.
Result<std::shared_ptr<arrow::RecordBatch>> Widened(std::shared_ptr<arrow::RecordBatch> batch);
// The field as DuckDB shall see it: its type widened, and of its metadata the extension name only.
std::shared_ptr<arrow::Field> Widened(const arrow::Field& field);

}  // namespace headrace::query
