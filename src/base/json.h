// JSON values (nlohmann). Include this, not <nlohmann/json.hpp>, and parse with the functions below: the
// parser and the larger members of the class are compiled once, in json.cc, and not in every source that uses
// them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

// (The members that are used, not the class: with CBOR, patches and the like it takes 20 s to compile.)
#define HEADRACE_JSON_MEMBERS(TEMPLATE, JSON)                                                               \
  TEMPLATE std::string nlohmann::JSON::dump(int, char, bool, nlohmann::detail::error_handler_t) const;      \
  TEMPLATE nlohmann::JSON::basic_json(const nlohmann::JSON&);                                               \
  TEMPLATE nlohmann::JSON::basic_json(nlohmann::JSON::initializer_list_t, bool, nlohmann::detail::value_t); \
  TEMPLATE void nlohmann::JSON::json_value::destroy(nlohmann::detail::value_t)

HEADRACE_JSON_MEMBERS(extern template, basic_json<>);
HEADRACE_JSON_MEMBERS(extern template, basic_json<nlohmann::ordered_map>);

namespace headrace {

// The parsed value; is_discarded() where the text is not JSON. For untrusted text see base/ordered_json.h.
nlohmann::json ParseJson(std::string_view text);
nlohmann::ordered_json ParseJsonInOrder(std::string_view text);

// The parsed value. Throws nlohmann::json::exception where the text is not JSON.
nlohmann::json ParseJsonOrThrow(std::string_view text);

}  // namespace headrace
