// Formats of JSON Schema (2020-12, section 7.3) as patterns.
#pragma once

#include <string_view>

namespace headrace::schema {

// The pattern of a format's texts, whole; a little narrower than the standard where that is simpler. "" for
// formats that are notes to the reader only (int32, binary, …): JSON Schema has them hold nothing.
std::string_view FormatPattern(std::string_view format);

}  // namespace headrace::schema
