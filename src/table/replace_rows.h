// Some values of a column replaced by others, or left out.
#pragma once

#include <memory>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "table/rows.h"

namespace headrace::table {

// A copy of `base` in which the value at `places[i]` (ascending, within it) is `values[i]`; both have one
// type.
Result<std::shared_ptr<arrow::Array>> Replaced(std::shared_ptr<arrow::Array> base,
                                               const std::vector<int64_t>& places,
                                               const std::shared_ptr<arrow::Array>& values);

// Both take a base that nobody else holds as memory of their own.
// The picks out of `base`, which has the values of all rows from rows.begin() to rows.end().
Result<std::shared_ptr<arrow::Array>> Picked(std::shared_ptr<arrow::Array> base, const Rows& rows);

// `base` without the values at `gaps` (ascending).
Result<std::shared_ptr<arrow::Array>> Without(std::shared_ptr<arrow::Array> base,
                                              const std::vector<int64_t>& gaps);

}  // namespace headrace::table
