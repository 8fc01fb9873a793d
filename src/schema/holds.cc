#include "schema/holds.h"

#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "schema/formats.h"

namespace headrace::schema {
namespace {

constexpr int kDeepestValue = 500;  // references and levels

class Checker {
 public:
  explicit Checker(const Document& document) : document_(document) {}

  Result<bool> Check(const Sub& schema, const Json& value) {
    if (schema.json->is_boolean()) return schema.json->get<bool>();
    if (!schema.json->is_object())
      return Status::Invalid("the schema's " + schema.path + " must be an object");
    if (++depth_ > kDeepestValue)
      return Status::Limit("the schema's " + schema.path + " goes round in circles");
    Result<bool> good = All(schema, value, true);
    --depth_;
    return good;
  }
  Result<bool> Alone(const Sub& schema, const Json& value) { return All(schema, value, false); }

 private:
#define HEADRACE_HOLDS(expr)                  \
  do {                                        \
    HEADRACE_ASSIGN(const bool holds_, expr); \
    if (!holds_) return false;                \
  } while (false)

  Result<bool> All(const Sub& s, const Json& value, bool combined) {
    for (const char* word : {"contains", "dependentRequired", "dependentSchemas", "dependencies",
                             "propertyNames", "$dynamicRef", "unevaluatedItems", "unevaluatedProperties"})
      if (s.Has(word)) return Status::Unsupported("the schema's " + s.Named(word) + " cannot be enforced");
    for (const char* word : {"$ref", "$recursiveRef"}) {
      if (!combined || !s.Has(word) || !s.At(word).is_string()) continue;
      HEADRACE_ASSIGN(const Sub target, document_.Resolve(s, s.At(word).get<std::string>()));
      HEADRACE_HOLDS(Check(target, value));
    }
    if (s.Has("const") && !Same(s.At("const"), value)) return false;
    if (s.Has("enum") && s.At("enum").is_array() && !document_.Lists(s.At("enum"), value)) return false;
    if (!IsOfType(s, value)) return false;
    if (combined) HEADRACE_HOLDS(Combined(s, value));
    if (value.is_number()) return Number(s, value);
    if (value.is_string()) return Text(s, value.get_ref<const std::string&>());
    if (value.is_array()) return Array(s, value);
    if (value.is_object()) return Object(s, value);
    return true;
  }

  static bool IsOfType(const Sub& s, const Json& value) {
    if (!s.Has("type")) return true;
    const auto is = [&](const Json& type) {
      if (!type.is_string()) return false;
      const std::string& name = type.get_ref<const std::string&>();
      if (name == "integer")
        return value.is_number_integer() ||
               (value.is_number() && std::nearbyint(value.get<double>()) == value.get<double>());
      return (name == "null" && value.is_null()) || (name == "boolean" && value.is_boolean()) ||
             (name == "number" && value.is_number()) || (name == "string" && value.is_string()) ||
             (name == "array" && value.is_array()) || (name == "object" && value.is_object());
    };
    const Json& type = s.At("type");
    return type.is_array() ? std::any_of(type.begin(), type.end(), is) : is(type);
  }

  Result<bool> Combined(const Sub& s, const Json& value) {
    for (const char* word : {"allOf", "anyOf", "oneOf"}) {
      if (!s.Has(word) || !s.At(word).is_array()) continue;
      size_t good = 0;
      for (size_t i = 0; i < s.At(word).size(); ++i) {
        HEADRACE_ASSIGN(const bool holds, Check(s.Below(word, i), value));
        good += holds ? 1 : 0;
      }
      const std::string_view which = word;
      if (which == "allOf" ? good < s.At(word).size() : which == "anyOf" ? good == 0 : good != 1)
        return false;
    }
    if (s.Has("not")) {
      HEADRACE_ASSIGN(const bool holds, Check(s.Below("not"), value));
      if (holds) return false;
    }
    if (s.Has("if")) {
      HEADRACE_ASSIGN(const bool holds, Check(s.Below("if"), value));
      const char* branch = holds ? "then" : "else";
      if (s.Has(branch)) HEADRACE_HOLDS(Check(s.Below(branch), value));
    }
    return true;
  }

  static Result<bool> Number(const Sub& s, const Json& value) {
    const auto number = value.get<double>();
    const auto flag = [&](const char* word) {
      return s.Has(word) && s.At(word).is_boolean() && s.At(word).get<bool>();
    };
    if (s.Has("minimum") && (number < s.At("minimum").get<double>() ||
                             (flag("exclusiveMinimum") && number == s.At("minimum").get<double>())))
      return false;
    if (s.Has("maximum") && (number > s.At("maximum").get<double>() ||
                             (flag("exclusiveMaximum") && number == s.At("maximum").get<double>())))
      return false;
    if (s.Has("exclusiveMinimum") && s.At("exclusiveMinimum").is_number() &&
        number <= s.At("exclusiveMinimum").get<double>())
      return false;
    if (s.Has("exclusiveMaximum") && s.At("exclusiveMaximum").is_number() &&
        number >= s.At("exclusiveMaximum").get<double>())
      return false;
    if (s.Has("multipleOf") && s.At("multipleOf").is_number()) {
      const double parts = number / s.At("multipleOf").get<double>();
      if (!(std::abs(parts - std::nearbyint(parts)) < 1e-9)) return false;
    }
    return true;
  }

  static bool CountIn(const Sub& s, const char* least, const char* most, size_t count) {
    return (!s.Has(least) || static_cast<double>(count) >= s.At(least).get<double>()) &&
           (!s.Has(most) || static_cast<double>(count) <= s.At(most).get<double>());
  }

  Result<bool> Text(const Sub& s, const std::string& text) {
    size_t length = 0;
    for (size_t at = 0; at < text.size(); ++length) (void)NextCodePoint(text, &at);
    if (!CountIn(s, "minLength", "maxLength", length)) return false;
    if (s.Has("pattern") && s.At("pattern").is_string()) {
      HEADRACE_ASSIGN(const Automaton* texts,
                      document_.Pattern(s.At("pattern").get<std::string>(), s.Named("pattern")));
      if (!texts->Accepts(text)) return false;
    }
    if (s.Has("format") && s.At("format").is_string()) {
      const std::string pattern(FormatPattern(s.At("format").get<std::string>()));
      if (pattern.empty()) return true;
      HEADRACE_ASSIGN(const Automaton* texts, document_.Pattern(pattern, s.Named("format")));
      return texts->Accepts(text);
    }
    return true;
  }

  Result<bool> Array(const Sub& s, const Json& value) {
    if (!CountIn(s, "minItems", "maxItems", value.size())) return false;
    if (s.Has("uniqueItems") && s.At("uniqueItems") == true)
      for (size_t i = 0; i < value.size(); ++i)
        for (size_t j = 0; j < i; ++j)
          if (Same(value[i], value[j])) return false;
    const char* prefix = s.Has("prefixItems")                         ? "prefixItems"
                         : s.Has("items") && s.At("items").is_array() ? "items"
                                                                      : nullptr;
    const size_t ahead = prefix == nullptr ? 0 : s.At(prefix).size();
    const char* rest = prefix != nullptr && std::string_view(prefix) == "items" ? "additionalItems" : "items";
    for (size_t i = 0; i < value.size(); ++i) {
      if (i < ahead) {
        HEADRACE_HOLDS(Check(s.Below(prefix, i), value[i]));
      } else if (s.Has(rest)) {
        HEADRACE_HOLDS(Check(s.Below(rest), value[i]));
      }
    }
    return true;
  }

  Result<bool> Object(const Sub& s, const Json& value) {
    if (!CountIn(s, "minProperties", "maxProperties", value.size())) return false;
    if (s.Has("required") && s.At("required").is_array())
      for (const Json& name : s.At("required"))
        if (name.is_string() && !value.contains(name.get<std::string>())) return false;
    for (const auto& [name, member] : value.items()) {
      bool known = false;
      if (s.Has("properties") && s.At("properties").contains(name)) {
        known = true;
        HEADRACE_HOLDS(Check(s.Below("properties", name), member));
      }
      if (s.Has("patternProperties")) {
        for (const auto& [pattern, schema] : s.At("patternProperties").items()) {
          HEADRACE_ASSIGN(const Automaton* names, document_.Pattern(pattern, s.Named("patternProperties")));
          if (!names->Accepts(name)) continue;
          known = true;
          HEADRACE_HOLDS(Check(s.Below("patternProperties", pattern), member));
        }
      }
      if (!known && s.Has("additionalProperties"))
        HEADRACE_HOLDS(Check(s.Below("additionalProperties"), member));
    }
    return true;
  }
#undef HEADRACE_HOLDS

  const Document& document_;
  int depth_ = 0;
};

}  // namespace

Result<bool> Holds(const Document& document, const Sub& schema, const Json& value) {
  return Checker(document).Check(schema, value);
}

Result<bool> HoldsAlone(const Document& document, const Sub& schema, const Json& value) {
  return Checker(document).Alone(schema, value);
}

bool Same(const Json& a, const Json& b) { return nlohmann::json(a) == nlohmann::json(b); }

}  // namespace headrace::schema
