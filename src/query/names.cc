#include "query/names.h"

#include <algorithm>
#include <cctype>

namespace headrace::query {
namespace {

std::string Lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace

std::string QuotedName(const std::string& name) {
  std::string quoted = "\"";
  for (const char c : name) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string FromVersion(const std::string& table, int64_t version) {
  return QuotedName(table + "@" + std::to_string(version)) + " as " + QuotedName(table);
}

std::vector<std::string> ColumnsNamedIn(std::string text, const table::Schema& schema) {
  text = Lowered(std::move(text));
  std::vector<std::string> named;
  for (const auto& field : schema.fields) {
    if (text.find(Lowered(field.name)) != std::string::npos) named.push_back(field.name);
  }
  return named;
}

}  // namespace headrace::query
