// json_body: JSON as an answer's body.
#pragma once

#include <string>

#include "base/json.h"

namespace headrace::serve {

// Bytes that are no UTF-8 become U+FFFD.
inline std::string Dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace headrace::serve
