// Columns that become wider. No file is written: each keeps the type that it stores, under the same field id,
// and its values are given in the column's type (parquet_leaf.h). Only where every value, and the order of
// any two, stays what it was: int8 to int16 to int32 to int64, uint8 to … to uint64, an unsigned integer to a
// larger signed one, float16 to float32 to float64, a decimal to more digits before the point; also inside
// lists, structs and maps' values.
#pragma once

#include "table/schema.h"

namespace headrace::table {

// What a program must know to read a schema with such a column (features.h).
inline constexpr std::string_view kWidenedFeature = "widened";

// Whether a column of the type `from` may become one of `to`; not where they are equal.
bool CanWiden(const Type& from, const Type& to);

// The field in the wider type: its ids, and its default as a value of that. Invalid, with the types that are
// possible, where it cannot be widened to it.
Result<Field> WidenedField(const Field& field, const Type& to);

// Whether this field, or one inside it, was widened.
bool HasWidened(const Field& field);

}  // namespace headrace::table
