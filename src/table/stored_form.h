// What Parquet has no type for, in nested columns as its reader gives them.
#pragma once

#include <memory>

#include <arrow/type_fwd.h>

#include "table/type.h"

namespace headrace::table {

// The array with durations where the type has them and the file has integers.
std::shared_ptr<arrow::Array> FromStored(const std::shared_ptr<arrow::Array>& array, const Type& type);

}  // namespace headrace::table
