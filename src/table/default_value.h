// Default values: what a column's holes read as. A schema holds them as text, and they take no room in files.
#pragma once

#include <arrow/type_fwd.h>

#include "table/schema.h"

namespace headrace::table {

// One row with the default. Invalid where the text is no value of the type, Unsupported where the type has no
// defaults: those that text cannot hold (binary, uuid), and nested ones.
Result<std::shared_ptr<arrow::Array>> DefaultOf(const Field& field);

// Makes the only value of an array, in the field's Arrow type, the field's default; none if it is null.
Status SetDefault(const arrow::Array& value, Field* field);

}  // namespace headrace::table
