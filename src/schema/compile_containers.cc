// Arrays and objects.
#include <algorithm>
#include <set>

#include "schema/compiler.h"

namespace headrace::schema {
namespace {

constexpr size_t kMostPatterns = 4;       // patternProperties of one object: each doubles the kinds of names
constexpr size_t kMostProperties = 4096;  // of one object
constexpr int64_t kMostCounted = 1000;    // minProperties and maxProperties

bool Says(const std::vector<Sub>& plain, std::initializer_list<const char*> words) {
  return std::any_of(plain.begin(), plain.end(), [&](const Sub& schema) {
    return std::any_of(words.begin(), words.end(), [&](const char* word) { return schema.Has(word); });
  });
}

const char* PrefixOf(const Sub& schema) {
  if (schema.Has("prefixItems")) return "prefixItems";
  return schema.Has("items") && schema.At("items").is_array() ? "items" : nullptr;
}

}  // namespace

Result<std::string> Compiler::Arrays(const Plain& plain) {
  HEADRACE_ASSIGN(const auto counts, Counts(plain, "minItems", "maxItems"));
  const int64_t least = counts.first, most = counts.second;
  if (most >= 0 && most < least) return std::string();
  HEADRACE_TRY(RefuseAny(plain, {"contains", "minContains", "maxContains", "unevaluatedItems"}));
  size_t prefix = 0;
  bool rest_said = false;
  for (const Sub& schema : plain) {
    if (schema.Has("uniqueItems") && schema.At("uniqueItems") == true && (most < 0 || most > 1))
      return CannotHold(schema.Named("uniqueItems"));
    const char* ahead = PrefixOf(schema);
    if (ahead != nullptr) {
      if (!schema.At(ahead).is_array())
        return Status::Invalid("the schema's " + schema.Named(ahead) + " must be an array");
      prefix = std::max(prefix, schema.At(ahead).size());
    }
    rest_said =
        rest_said ||
        schema.Has(ahead != nullptr && std::string_view(ahead) == "items" ? "additionalItems" : "items");
  }
  // What must hold of the item at `index`, of any past the prefix at `prefix`.
  const auto item = [&](size_t index) {
    Items items;
    for (const Sub& schema : plain) {
      const char* ahead = PrefixOf(schema);
      const char* rest = ahead != nullptr && std::string_view(ahead) == "items" ? "additionalItems" : "items";
      if (ahead != nullptr && index < schema.At(ahead).size()) {
        items.push_back({schema.Below(ahead, index)});
      } else if (schema.Has(rest)) {
        items.push_back({schema.Below(rest)});
      }
    }
    return Values(items);
  };
  if (prefix == 0 && !rest_said && least == 0 && most < 0) return std::string("array");
  std::vector<std::string> ahead;
  bool ends = false;  // an item that cannot be
  for (size_t i = 0; i < prefix && !ends; ++i) {
    HEADRACE_ASSIGN(std::string rule, item(i));
    ends = rule.empty();
    if (!ends) ahead.push_back(std::move(rule));
  }
  std::string rest;
  if (!ends && (rest_said || prefix == 0)) {
    HEADRACE_ASSIGN(rest, item(prefix));
  }
  // From the back: what may follow once so many items stand there.
  const auto count = static_cast<int64_t>(ahead.size());
  const auto repeat =
      [&](int64_t from) -> std::optional<std::string> {  // items past the prefix, `from` there
    const int64_t low = std::max<int64_t>(0, least - from),
                  high = most < 0 ? -1 : std::max<int64_t>(0, most - from);
    if (rest.empty() || high == 0) return low == 0 ? std::optional<std::string>("\"\"") : std::nullopt;
    return "(\", \" " + rest + "){" + std::to_string(low) + "," + (high < 0 ? "" : std::to_string(high)) +
           "}";
  };
  std::vector<std::string> choices;
  if (least == 0) choices.emplace_back("\"[]\"");
  std::string head;
  for (int64_t n = 1; n <= count && (most < 0 || n <= most); ++n) {
    head += (n == 1 ? "\"[\" " : " \", \" ") + ahead[static_cast<size_t>(n) - 1];
    if (n < count && n >= least) choices.push_back(head + " \"]\"");
    if (n == count)
      if (const auto tail = repeat(n)) choices.push_back(head + " " + *tail + " \"]\"");
  }
  if (count == 0 && !rest.empty() && most != 0)
    if (const auto tail = repeat(1)) choices.push_back("\"[\" " + rest + " " + *tail + " \"]\"");
  return choices.empty() ? std::string() : OneOf(choices);
}

// Declared names, in the order of the schemas; required ones that nothing declares come last.
Result<std::vector<std::string>> Compiler::Names(const Plain& plain) const {
  std::vector<std::string> names;
  std::set<std::string_view> known;  // of what stays in the document
  const auto add = [&](const std::string& name) {
    if (known.insert(name).second) names.push_back(name);
  };
  for (const Sub& schema : plain) {
    for (const char* word : {"properties", "patternProperties"})
      if (schema.Has(word) && !schema.At(word).is_object())
        return Status::Invalid("the schema's " + schema.Named(word) + " must be an object");
    if (schema.Has("properties"))
      for (auto at = schema.At("properties").begin(); at != schema.At("properties").end(); ++at)
        add(at.key());
  }
  for (const Sub& schema : plain) {
    if (!schema.Has("required") || schema.At("required").is_boolean()) continue;  // draft 3 has a flag there
    if (!schema.At("required").is_array())
      return Status::Invalid("the schema's " + schema.Named("required") + " must be an array of names");
    for (const Json& name : schema.At("required")) {
      if (!name.is_string())
        return Status::Invalid("the schema's " + schema.Named("required") + " must be an array of names");
      add(name.get_ref<const std::string&>());
    }
  }
  if (names.size() > kMostProperties)
    return Status::Limit("the schema's " + PathOf(plain) + " has more than " +
                         std::to_string(kMostProperties) + " properties");
  return names;
}

// A property by its name; none where no value could stand there.
Result<std::optional<Compiler::Property>> Compiler::Declared(const Plain& plain, const std::string& name,
                                                             bool required) {
  Items items;
  for (const Sub& schema : plain) {
    bool known = schema.Has("properties") && schema.At("properties").contains(name);
    if (known) items.push_back({schema.Below("properties", name)});
    if (schema.Has("patternProperties")) {
      for (const auto& [pattern, value] : schema.At("patternProperties").items()) {
        HEADRACE_ASSIGN(const Automaton* names,
                        document_.Pattern(pattern, schema.Named("patternProperties")));
        if (!names->Accepts(name)) continue;
        items.push_back({schema.Below("patternProperties", pattern)});
        known = true;
      }
    }
    if (!known && schema.Has("additionalProperties")) items.push_back({schema.Below("additionalProperties")});
  }
  // Nothing speaks of a property that is merely not wanted elsewhere (unevaluatedProperties) once it is
  // declared.
  HEADRACE_ASSIGN(std::string value, Values(items));
  if (value.empty()) return std::optional<Property>();
  return std::optional<Property>(
      Property{name, Rules::Literal(Written(Json(name))), std::move(value), required});
}

// The kinds of names that are not declared: by the patterns they match.
Result<std::vector<Compiler::Property>> Compiler::Undeclared(const Plain& plain,
                                                             const std::vector<std::string>& declared) {
  std::vector<std::string> patterns;
  for (const Sub& schema : plain)
    if (schema.Has("patternProperties"))
      for (const auto& [pattern, value] : schema.At("patternProperties").items())
        if (std::find(patterns.begin(), patterns.end(), pattern) == patterns.end())
          patterns.push_back(pattern);
  if (patterns.size() > kMostPatterns)
    return CannotHold(PathOf(plain) + "/patternProperties of more than " + std::to_string(kMostPatterns) +
                      " patterns");
  const bool said = Says(plain, {"additionalProperties", "unevaluatedProperties"});
  const bool closed = Says(plain, {"properties", "patternProperties", "required"}) && !said;
  const Automaton others = Automaton::OfTexts(declared).Complement();
  std::vector<Property> kinds;
  for (unsigned matched = 0; matched < 1U << patterns.size(); ++matched) {
    if (matched == 0 && closed) continue;
    Items items;
    for (const Sub& schema : plain) {
      bool known = false;
      for (size_t p = 0; p < patterns.size(); ++p) {
        if ((matched >> p & 1U) == 0 || !schema.Has("patternProperties") ||
            !schema.At("patternProperties").contains(patterns[p]))
          continue;
        known = true;
        items.push_back({schema.Below("patternProperties", patterns[p])});
      }
      if (!known && schema.Has("additionalProperties"))
        items.push_back({schema.Below("additionalProperties")});
      if (matched == 0 && schema.Has("unevaluatedProperties") && !Says(plain, {"additionalProperties"}))
        items.push_back({schema.Below("unevaluatedProperties")});
    }
    HEADRACE_ASSIGN(std::string value, Values(items));
    if (value.empty()) continue;
    Automaton names = others;
    for (size_t p = 0; p < patterns.size(); ++p) {
      HEADRACE_ASSIGN(const Automaton* one, document_.Pattern(patterns[p], "patternProperties"));
      HEADRACE_ASSIGN(names, names.Intersect((matched >> p & 1U) != 0 ? *one : one->Complement()));
    }
    if (names.empty()) continue;
    const bool any = declared.empty() && patterns.empty();
    kinds.push_back({"", any ? "string" : rules_.QuotedTexts(names), std::move(value), false});
  }
  return kinds;
}

Result<std::string> Compiler::Objects(const Plain& plain) {
  HEADRACE_ASSIGN(const auto counts, Counts(plain, "minProperties", "maxProperties"));
  HEADRACE_TRY(RefuseAny(plain, {"dependentRequired", "dependentSchemas", "dependencies", "propertyNames"}));
  HEADRACE_ASSIGN(const std::vector<std::string> names, Names(plain));
  std::set<std::string> required;
  for (const Sub& schema : plain)
    if (schema.Has("required") && schema.At("required").is_array())
      for (const Json& name : schema.At("required")) required.insert(name.get<std::string>());
  std::vector<Property> declared;
  for (const std::string& name : names) {
    HEADRACE_ASSIGN(auto property, Declared(plain, name, required.contains(name)));
    if (property) {
      declared.push_back(std::move(*property));
    } else if (required.contains(name)) {
      return std::string();
    }
  }
  HEADRACE_ASSIGN(const std::vector<Property> more, Undeclared(plain, names));
  auto [least, most] = counts;
  if (most >= 0 && most < least) return std::string();
  if (least > kMostCounted)
    return CannotHold(PathOf(plain) + "/minProperties above " + std::to_string(kMostCounted));
  // A grammar cannot see to it that two undeclared names differ: one of them counts.
  if (least > static_cast<int64_t>(declared.size()) + 1 && !more.empty())
    return CannotHold(PathOf(plain) + "/minProperties of undeclared properties");
  if (most > kMostCounted) most = -1;
  if (names.empty() && more.size() == 1 && more[0].key == "string" && more[0].value == "value" &&
      least == 0 && most < 0)
    return std::string("object");
  return Members(declared, more, least, most, PathOf(plain));
}

// Properties one after another: a rule for each place and number of those before it, as far as that matters.
Result<std::string> Compiler::Members(const std::vector<Property>& declared,
                                      const std::vector<Property>& more, int64_t least, int64_t most,
                                      const std::string& path) {
  const size_t n = declared.size();
  const int64_t top = most >= 0 ? most : std::max<int64_t>(least, 1);  // counts beyond are all the same
  if (static_cast<int64_t>(n + 1) * (top + 1) > 100000) return TooMany(path);
  std::string extra;
  for (const Property& kind : more)
    extra += (extra.empty() ? "" : " | ") + kind.key + R"( ": " )" + kind.value;
  if (!extra.empty()) {
    const std::string name = rules_.NewName();
    rules_.Define(name, extra);
    extra = name;
  }
  // What follows when `count` properties stand there already; nullopt: nothing can.
  const auto tail = [&](int64_t count) -> std::optional<std::string> {
    const int64_t low = std::max<int64_t>(0, least - count), high = most < 0 ? -1 : most - count;
    if (extra.empty() || high == 0) return low == 0 ? std::optional<std::string>("\"}\"") : std::nullopt;
    if (low > 1) return std::nullopt;
    const auto times = [&](int64_t from, int64_t to) {
      return "(\", \" " + extra + "){" + std::to_string(from) + "," + (to < 0 ? "" : std::to_string(to)) +
             "}";
    };
    if (count > 0) return times(low, high) + " \"}\"";
    const std::string some = extra + " " + times(0, high < 0 ? -1 : high - 1) + " \"}\"";
    return low > 0 ? some : "(\"}\" | " + some + ")";
  };
  std::vector<std::optional<std::string>> next(static_cast<size_t>(top) + 1), here(next.size());
  for (int64_t count = 0; count <= top; ++count) next[static_cast<size_t>(count)] = tail(count);
  for (size_t i = n; i-- > 0;) {
    for (int64_t count = 0; count <= top; ++count) {
      std::vector<std::string> choices;
      const bool room = most < 0 || count < most;
      const auto& with = next[static_cast<size_t>(std::min(count + 1, top))];
      if (room && with)
        choices.push_back((count > 0 ? "\", \" " : "") + declared[i].key + R"( ": " )" + declared[i].value +
                          " " + *with);
      const auto& without = next[static_cast<size_t>(count)];
      if (!declared[i].required && without) choices.push_back(*without);
      auto& body = here[static_cast<size_t>(count)];
      body.reset();
      if (choices.empty()) continue;
      std::string name = rules_.NewName();
      rules_.Define(name, OneOf(choices));
      body = std::move(name);
    }
    std::swap(next, here);
  }
  if (!next[0]) return std::string();
  return "\"{\" " + *next[0];
}

}  // namespace headrace::schema
