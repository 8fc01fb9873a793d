#include "table/json_text.h"

#include <charconv>
#include "base/json.h"

#include "base/json_tape.h"

namespace headrace::table {
namespace {

using nlohmann::json;

Status BadPath(std::string_view text, const char* why) {
  return Status::Invalid("'" + std::string(text) + "' is not a path into JSON: " + why +
                         " (try 'lang', '$.usage.tokens' or '$.messages[0].role')");
}

Result<JsonPath> ParsePointer(std::string_view text) {
  JsonPath path;
  for (size_t at = 1; at <= text.size();) {
    size_t end = text.find('/', at);
    if (end == std::string_view::npos) end = text.size();
    JsonStep step;
    for (size_t i = at; i < end; ++i) {
      if (text[i] != '~') {
        step.key += text[i];
      } else if (++i < end && (text[i] == '0' || text[i] == '1')) {
        step.key += text[i] == '0' ? '~' : '/';
      } else {
        return BadPath(text, "after ~ comes 0 or 1");
      }
    }
    const auto [stop, error] =
        std::from_chars(step.key.data(), step.key.data() + step.key.size(), step.index);
    if (error != std::errc() || stop != step.key.data() + step.key.size()) step.index = -1;
    path.push_back(std::move(step));
    at = end + 1;
  }
  return path;
}

Result<JsonPath> ParseDollar(std::string_view text) {
  JsonPath path;
  size_t at = 1;
  while (at < text.size()) {
    JsonStep step;
    const char opens = text[at++];
    if (opens == '.' && at < text.size() && text[at] == '"') {
      const size_t end = text.find('"', ++at);
      if (end == std::string_view::npos) return BadPath(text, "a quote is not closed");
      step.key = text.substr(at, end - at);
      at = end + 1;
    } else if (opens == '.') {
      const size_t end = std::min(text.find_first_of(".[", at), text.size());
      step.key = text.substr(at, end - at);
      if (step.key.empty() || step.key == "*") return BadPath(text, "a key is missing, or is a wildcard");
      at = end;
    } else if (opens == '[') {
      const auto [stop, error] = std::from_chars(text.data() + at, text.data() + text.size(), step.index);
      const bool number = error == std::errc() && step.index >= 0;
      if (!number || stop == text.data() + text.size() || *stop != ']')
        return BadPath(text, "between [ and ] stands a number from 0");
      at = static_cast<size_t>(stop - text.data()) + 1;
    } else {
      return BadPath(text, "after $ comes . or [");
    }
    path.push_back(std::move(step));
  }
  return path;
}

}  // namespace

Status CheckJson(std::string_view text) {
  JsonTape tape;
  const Status read = tape.Read(text);
  if (read.Is(Code::kLimit)) return read;
  return read.ok() ? read : Status::Invalid("it is not JSON: " + read.message());
}

Result<JsonPath> ParseJsonPath(std::string_view text) {
  if (text.empty()) return BadPath(text, "it is empty");
  if (text[0] == '$') return ParseDollar(text);
  if (text[0] == '/') return ParsePointer(text);
  return JsonPath{{std::string(text), -1}};
}

std::optional<std::string> JsonTextAt(std::string_view text, const JsonPath& path) {
  const json whole = ParseJson(text);
  const json* at = &whole;
  for (const auto& step : path) {
    if (at->is_array() && step.index >= 0 && step.index < static_cast<int64_t>(at->size())) {
      at = &(*at)[static_cast<size_t>(step.index)];
    } else if (at->is_object() && at->contains(step.key) && (step.index < 0 || !step.key.empty())) {
      at = &(*at)[step.key];
    } else {
      return std::nullopt;
    }
  }
  if (at->is_null() || at->is_discarded()) return std::nullopt;
  if (at->is_string()) return at->get<std::string>();
  return at->dump();
}

}  // namespace headrace::table
