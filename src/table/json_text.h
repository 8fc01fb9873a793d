// Text of json columns: whether it is JSON, and what lies at a path in it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::table {

// Invalid, with what is wrong and where, unless the text is one JSON value (RFC 8259) that nests at most
// limits::kMaxJsonDepth deep.
Status CheckJson(std::string_view text);

// A place in a JSON value: keys of objects and indexes of arrays from the outside in.
struct JsonStep {
  std::string key;
  int64_t index = -1;  // >= 0: of an array, and there is no key
};
using JsonPath = std::vector<JsonStep>;

// "lang", "$.usage.tokens", "$.messages[0].role", '$."a key"', "/usage/tokens" (RFC 6901), as DuckDB reads
// them; without its wildcards. Invalid, with the reason, otherwise.
Result<JsonPath> ParseJsonPath(std::string_view text);

// What `->>` gives: the text of a string, the JSON text of everything else; nothing for null and where there
// is no such place. The text is valid JSON.
std::optional<std::string> JsonTextAt(std::string_view text, const JsonPath& path);

}  // namespace headrace::table
