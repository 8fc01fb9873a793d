// float16, which DuckDB does not have, as float32: alone and inside lists, tensors and structs.
#pragma once

#include <memory>

#include <arrow/type_fwd.h>

#include "base/status.h"

namespace headrace::query {

std::shared_ptr<arrow::DataType> Widened(const std::shared_ptr<arrow::DataType>& type);
Result<std::shared_ptr<arrow::RecordBatch>> Widened(std::shared_ptr<arrow::RecordBatch> batch);

}  // namespace headrace::query
