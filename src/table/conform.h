// Bringing a caller's Arrow data into the exact form in which a field is stored, or saying why it cannot be.
#pragma once

#include <memory>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/exact_cast.h"
#include "table/schema.h"

namespace headrace::table {

// Decodes dictionaries, narrows "large" and view variants, brings numbers and times into the field's width
// and unit where nothing is lost (exact_cast.h), wraps bytes given for a blob column, unwraps extension
// types, and validates what came from outside (offsets, UTF-8, null tensor elements). The error names the
// column, and the row where one is at fault.
Result<std::shared_ptr<arrow::Array>> ConformArray(const std::shared_ptr<arrow::Array>& array,
                                                   const Field& field);

// The same, but rows at fault are told in `faults` (once each and column; what the result holds there means
// nothing). Invalid only if the column as a whole is.
Result<std::shared_ptr<arrow::Array>> ConformRows(const std::shared_ptr<arrow::Array>& array,
                                                  const Field& field, std::vector<RowFault>* faults);

// An array of `rows` values that a hole of this field reads as: its default, or null.
Result<std::shared_ptr<arrow::Array>> HoleArray(const Field& field, int64_t rows);

}  // namespace headrace::table
