// JSON values (nlohmann). Include this, not <nlohmann/json.hpp>: the parser and the members of the class are
// compiled once, in json.cc, and not in every source that uses them (a third of such a source's time).
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

extern template class nlohmann::basic_json<>;
extern template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace headrace {

// The parsed value; is_discarded() where the text is not JSON. For untrusted text see base/ordered_json.h.
nlohmann::json ParseJson(std::string_view text);
nlohmann::ordered_json ParseJsonInOrder(std::string_view text);

}  // namespace headrace
