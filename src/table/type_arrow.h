// How Arrow types map onto the types of columns, and back.
#pragma once

#include <memory>

#include <arrow/type_fwd.h>

#include "table/type.h"

namespace headrace::table {

// Maps an Arrow type losslessly, or refuses it by name with the cast to use. Extension types known here, as
// types or as a field's metadata: arrow.fixed_shape_tensor, arrow.json, arrow.uuid, headrace.bfloat16
// (fixed-size list of uint16), headrace.blob.
Result<Type> TypeFromArrow(const arrow::Field& field);
// The Arrow form of stored data. Nested fields carry their ids as PARQUET:field_id; fields of json and uuid
// say so in their metadata (ARROW:extension:name), and their arrays are of the plain type below it.
std::shared_ptr<arrow::DataType> ToArrow(const Type& type);
std::shared_ptr<arrow::Field> ToArrow(const Field& field);

}  // namespace headrace::table
