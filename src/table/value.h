// One scalar value: a literal of a filter, a bound of a statistic.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "base/status.h"

namespace headrace::table {

// Null, bool, integer (also dates in days and timestamps in their unit), floating point, string or binary.
using Value = std::variant<std::monostate, bool, int64_t, double, std::string>;

inline bool IsNull(const Value& value) { return std::holds_alternative<std::monostate>(value); }

// Total order within one alternative; NaN equals NaN and is above every other number (as in PostgreSQL and
// DuckDB). Integers and floats compare as numbers. Negative, zero or positive.
int CompareValues(const Value& a, const Value& b);
int CompareDoubles(double a, double b);

// A text form that reads back to the same value (snapshots keep statistics this way): "i:42", "d:0x1.8p+0",
// "s:…", "b:1". Strings travel as hex, so any bytes survive.
std::string EncodeValue(const Value& value);
Result<Value> DecodeValue(const std::string& text);

}  // namespace headrace::table
