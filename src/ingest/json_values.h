// Converts JSON values to cells of a column's type, without loss or not at all.
#pragma once

#include <string>

#include <arrow/type_fwd.h>

#include "base/json_tape.h"
#include "table/type.h"

namespace headrace::ingest {

// Why the value is not one of the type: "" if it converts without loss. `path`: where it is,
// as "messages.item.content". Null is a value of every type; a key that an object lacks is null.
std::string WhyNot(const JsonTape& tape, uint32_t value, const table::Type& type, const std::string& path);

// Adds a value of the type to the builder of ToArrow(type). Invalid where it is none.
arrow::Status Append(const JsonTape& tape, uint32_t value, const table::Type& type,
                     arrow::ArrayBuilder* builder);

}  // namespace headrace::ingest
