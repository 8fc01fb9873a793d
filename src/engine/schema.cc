#include "engine/schema.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

namespace headrace::engine {
namespace {

using Json = nlohmann::ordered_json;  // the order of properties is the order of the answer

constexpr int kMaxSchemaDepth = 256;

// Keywords of JSON Schema that XGrammar reads past: enforcing nothing would be a broken promise.
constexpr const char* kNotEnforced[] = {"not",
                                        "if",
                                        "then",
                                        "else",
                                        "uniqueItems",
                                        "multipleOf",
                                        "contains",
                                        "minContains",
                                        "maxContains",
                                        "dependentRequired",
                                        "dependentSchemas",
                                        "dependencies",
                                        "propertyNames",
                                        "$dynamicRef",
                                        "$recursiveRef"};

int Depth(std::string_view text) {
  int depth = 0, most = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == '"')
        quoted = false;
    } else if (text[i] == '"') {
      quoted = true;
    } else if (text[i] == '{' || text[i] == '[') {
      most = std::max(most, ++depth);
    } else if (text[i] == '}' || text[i] == ']') {
      --depth;
    }
  }
  return most;
}

// Keywords that say something of one type only. XGrammar enforces them only beside that type.
struct Family {
  const char* type;
  std::vector<const char*> words;
};
const std::vector<Family>& Families() {
  static const std::vector<Family> families = {
      {"string", {"minLength", "maxLength", "pattern", "format"}},
      {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}},
      {"array", {"items", "prefixItems", "minItems", "maxItems", "additionalItems", "unevaluatedItems"}},
      {"object",
       {"properties", "required", "additionalProperties", "patternProperties", "minProperties",
        "maxProperties", "unevaluatedProperties"}},
  };
  return families;
}

bool Says(const Json& schema, const Family& family) {
  return std::any_of(family.words.begin(), family.words.end(),
                     [&](const char* word) { return schema.contains(word); });
}

// Whether no value can match both: different types, or objects that a required constant tells apart.
bool Exclusive(const Json& a, const Json& b) {
  if (!a.is_object() || !b.is_object()) return false;
  const auto type = [](const Json& s) {
    return s.contains("type") && s["type"].is_string() ? s["type"].get<std::string>() : std::string();
  };
  const std::string x = type(a), y = type(b);
  const bool numbers = (x == "integer" || x == "number") && (y == "integer" || y == "number");
  if (!x.empty() && !y.empty() && x != y && !numbers) return true;
  const auto constant = [](const Json& s, const std::string& name) -> Json {
    const Json& property = s["properties"][name];
    if (!property.is_object()) return Json();
    if (property.contains("const")) return property["const"];
    return property.contains("enum") && property["enum"].is_array() && property["enum"].size() == 1
               ? property["enum"][0]
               : Json();
  };
  if (x != "object" || y != "object" || !a.contains("properties") || !b.contains("properties") ||
      !a.contains("required"))
    return false;
  for (const auto& name : a["required"]) {
    if (!name.is_string() || !b.contains("required") ||
        std::find(b["required"].begin(), b["required"].end(), name) == b["required"].end())
      continue;
    if (!a["properties"].contains(name.get<std::string>()) ||
        !b["properties"].contains(name.get<std::string>()))
      continue;
    const Json c = constant(a, name), d = constant(b, name);
    if (!c.is_null() && !d.is_null() && c != d) return true;
  }
  return false;
}

// Makes a schema say what XGrammar needs said, and finds what it would read past: the path of the first such
// place, "" if there is none. A schema without a type gets the one that its keywords speak of: narrower, so
// still right.
std::string Prepare(Json* at, const std::string& where) {
  Json& schema = *at;
  if (!schema.is_object()) return "";
  for (const char* word : kNotEnforced)
    if (schema.contains(word) && !(std::string_view(word) == "uniqueItems" && schema[word] == false))
      return where + "/" + word;
  const char* chooser = nullptr;
  for (const char* word : {"anyOf", "oneOf", "allOf", "$ref", "enum", "const"}) {
    if (!schema.contains(word)) continue;
    if (chooser != nullptr) return where + "/" + word + " beside " + chooser;
    chooser = word;
  }
  if (schema.contains("patternProperties") && schema["patternProperties"].is_object() &&
      schema["patternProperties"].size() > 1)
    return where + "/patternProperties of several patterns";
  const Family* speaks = nullptr;
  for (const Family& family : Families()) {
    if (!Says(schema, family)) continue;
    if (chooser != nullptr) return where + "/" + chooser + " beside keywords of " + family.type;
    if (schema.contains("type")) continue;
    if (speaks != nullptr)
      return where + ", which speaks of " + speaks->type + " and " + family.type + " and names no type,";
    speaks = &family;
  }
  if (speaks != nullptr) schema["type"] = speaks->type;
  if (chooser != nullptr && schema.contains("type") && std::string_view(chooser) != "enum" &&
      std::string_view(chooser) != "const")
    return where + "/type beside " + chooser;
  if (chooser != nullptr && std::string_view(chooser) == "allOf" && schema["allOf"].is_array() &&
      schema["allOf"].size() > 1)
    return where + "/allOf of several schemas";
  if (schema.contains("oneOf") && schema["oneOf"].is_array())
    for (size_t i = 0; i < schema["oneOf"].size(); ++i)
      for (size_t j = 0; j < i; ++j)
        if (!Exclusive(schema["oneOf"][j], schema["oneOf"][i]))
          return where + "/oneOf, whose choices " + std::to_string(j) + " and " + std::to_string(i) +
                 " may both hold (use anyOf),";
  for (const char* map : {"properties", "$defs", "definitions", "patternProperties"})
    if (schema.contains(map) && schema[map].is_object())
      for (auto& [name, value] : schema[map].items())
        if (std::string found = Prepare(&value, where + "/" + map + "/" + name); !found.empty()) return found;
  for (const char* one :
       {"items", "additionalProperties", "additionalItems", "unevaluatedProperties", "unevaluatedItems"})
    if (schema.contains(one))
      if (std::string found = Prepare(&schema[one], where + "/" + one); !found.empty()) return found;
  for (const char* list : {"anyOf", "oneOf", "allOf", "prefixItems", "items"})
    if (schema.contains(list) && schema[list].is_array())
      for (size_t i = 0; i < schema[list].size(); ++i)
        if (std::string found = Prepare(&schema[list][i], where + "/" + list + "/" + std::to_string(i));
            !found.empty())
          return found;
  return "";
}

}  // namespace

Status CheckJsonText(const std::string& text) {
  if (Depth(text) > kMaxSchemaDepth)
    return Status::Limit("the schema is nested more than " + std::to_string(kMaxSchemaDepth) + " deep");
  if (!Json::accept(text)) return Status::Invalid("the schema is not JSON");
  return Status::Ok();
}

Result<std::string> PrepareSchema(const std::string& text) {
  HEADRACE_TRY(CheckJsonText(text));
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() && !json.is_boolean())
    return Status::Invalid("a JSON schema is an object, true or false");
  const std::string found = Prepare(&json, "#");
  if (!found.empty())
    return Status::Unsupported("the schema's " + found +
                               " cannot be enforced; leave it out, or check the answer yourself");
  return json.dump();
}

}  // namespace headrace::engine
