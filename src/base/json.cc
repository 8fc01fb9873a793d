#include "base/json.h"

HEADRACE_JSON_MEMBERS(template, basic_json<>);
HEADRACE_JSON_MEMBERS(template, basic_json<nlohmann::ordered_map>);

namespace headrace {

nlohmann::json ParseJson(std::string_view text) {
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

nlohmann::ordered_json ParseJsonInOrder(std::string_view text) {
  return nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
}

nlohmann::json ParseJsonOrThrow(std::string_view text) { return nlohmann::json::parse(text); }

}  // namespace headrace
