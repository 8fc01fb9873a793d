// JSON whose members keep their order, parsed from untrusted text.
#pragma once

#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace headrace {

// kInvalid: the text is no JSON (what the message quotes of it may not be UTF-8), or a name appears twice in
// one object, told with its path. The text's depth is the caller's to bound, see below: building is not
// recursive, but what walks the value may be.
Result<nlohmann::ordered_json> ParseOrderedJson(std::string_view text);

// How deep arrays and objects of a text are nested; of one that is no JSON, at least as deep as it could be
// read.
int JsonDepth(std::string_view text);

}  // namespace headrace
