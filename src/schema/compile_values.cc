// Values without parts: constants, numbers, strings.
#include <algorithm>
#include <cmath>

#include "schema/compiler.h"
#include "schema/formats.h"
#include "schema/holds.h"

namespace headrace::schema {
namespace {

enum : unsigned {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kNumber = 8,
  kString = 16,
  kArray = 32,
  kObject = 64
};
constexpr unsigned kAll = 127;

struct TypeName {
  const char* name;
  unsigned bits;
};
constexpr TypeName kTypes[] = {
    {"null", kNull},     {"boolean", kBoolean}, {"integer", kInteger}, {"number", kInteger | kNumber},
    {"string", kString}, {"array", kArray},     {"object", kObject}};

// Keywords that speak of one type only.
struct Spoken {
  const char* word;
  unsigned bits;
};
constexpr Spoken kSpoken[] = {{"minLength", kString},
                              {"maxLength", kString},
                              {"pattern", kString},
                              {"minimum", kInteger | kNumber},
                              {"maximum", kInteger | kNumber},
                              {"exclusiveMinimum", kInteger | kNumber},
                              {"exclusiveMaximum", kInteger | kNumber},
                              {"multipleOf", kInteger | kNumber},
                              {"items", kArray},
                              {"prefixItems", kArray},
                              {"minItems", kArray},
                              {"maxItems", kArray},
                              {"uniqueItems", kArray},
                              {"contains", kArray},
                              {"properties", kObject},
                              {"required", kObject},
                              {"additionalProperties", kObject},
                              {"patternProperties", kObject},
                              {"minProperties", kObject},
                              {"maxProperties", kObject},
                              {"propertyNames", kObject}};

constexpr size_t kManyStates = 256;  // a pattern beyond that is written out as it stands, where it can be

Result<unsigned> TypeBits(const Json& type, const std::string& path) {
  if (type.is_string())
    for (const TypeName& known : kTypes)
      if (type == known.name) return known.bits;
  return Status::Invalid("the schema's " + path + " is " + type.dump() +
                         "; there are null, boolean, integer, number, string, array and object");
}

// The larger of two lower bounds, or the smaller of two upper ones.
void Tighten(std::optional<Bound>* bound, const Json& value, bool exclusive, bool lower) {
  Bound fresh{value.dump(), exclusive};
  if (!*bound) {
    *bound = fresh;
    return;
  }
  const double have = std::strtod((*bound)->digits.c_str(), nullptr), next = value.get<double>();
  if (next == have) {
    (*bound)->exclusive = (*bound)->exclusive || exclusive;
  } else if (lower ? next > have : next < have) {
    *bound = fresh;
  }
}

// What stands between ^ and $, where the expression has these at its ends and nowhere else.
std::optional<Regex> Anchored(Regex regex) {
  using Kind = Regex::Kind;
  if (regex.kind != Kind::kSequence || regex.parts.size() < 2 || regex.parts.front().kind != Kind::kBegin ||
      regex.parts.back().kind != Kind::kEnd)
    return std::nullopt;
  regex.parts.erase(regex.parts.begin());
  regex.parts.pop_back();
  std::function<bool(const Regex&)> free = [&](const Regex& part) {
    return part.kind != Kind::kBegin && part.kind != Kind::kEnd &&
           std::all_of(part.parts.begin(), part.parts.end(), free);
  };
  if (!free(regex)) return std::nullopt;
  return regex;
}

}  // namespace

Result<std::pair<int64_t, int64_t>> Counts(const std::vector<Sub>& plain, const char* least,
                                           const char* most) {
  constexpr double kMost = 1e15;
  std::pair<int64_t, int64_t> counts = {0, -1};
  for (const Sub& schema : plain) {
    for (const char* word : {least, most}) {
      if (!schema.Has(word)) continue;
      const Json& value = schema.At(word);
      if (!value.is_number() || value.get<double>() < 0 ||
          std::nearbyint(value.get<double>()) != value.get<double>())
        return Status::Invalid("the schema's " + schema.Named(word) +
                               " must be a whole number, not negative");
      const auto count = static_cast<int64_t>(std::min(value.get<double>(), kMost));
      if (word == least) {
        counts.first = std::max(counts.first, count);
      } else {
        counts.second = counts.second < 0 ? count : std::min(counts.second, count);
      }
    }
  }
  return counts;
}

const Json* Compiler::Listed(const Plain& plain) {
  for (const Sub& schema : plain)
    for (const char* word : {"const", "enum"})
      if (schema.Has(word)) return &schema.At(word);
  return nullptr;
}

Result<std::string> Compiler::Literals(const Items& items, const Flat& flat, const Json& listed) const {
  // A list that is no array cannot be `enum`'s; `const` takes anything.
  const Json* constant = nullptr;
  for (const Sub& schema : flat.plain) {
    if (schema.Has("const") && &schema.At("const") == &listed) constant = &listed;
    if (schema.Has("enum") && (!schema.At("enum").is_array() || schema.At("enum").empty()))
      return Status::Invalid("the schema's " + schema.Named("enum") + " must be an array, not empty");
  }
  std::vector<Json> candidates;
  if (constant != nullptr) {
    candidates.push_back(listed);
  } else {
    candidates.assign(listed.begin(), listed.end());
  }
  std::string body;
  for (const Json& value : candidates) {
    bool good = true;
    // A schema whose branches are decided is asked for its own keywords only while two of its branches are
    // compared: its oneOf would say of itself what is to be found out.
    for (const Item& item : items) {
      HEADRACE_ASSIGN(const bool holds, comparing_&& item.decided ? HoldsAlone(document_, item.schema, value)
                                                                  : Holds(document_, item.schema, value));
      good = good && holds;
    }
    if (!good) continue;
    const std::string literal = Rules::Literal(Written(value));
    body += (body.empty() ? "" : " | ") + literal;
  }
  return body;
}

Result<unsigned> Compiler::Types(const Plain& plain) {
  unsigned types = kAll, spoken = 0;
  bool named = false;
  for (const Sub& schema : plain) {
    for (const Spoken& one : kSpoken)
      if (schema.Has(one.word)) spoken |= one.bits;
    if (schema.Has("format") && schema.At("format").is_string() &&
        !FormatPattern(schema.At("format").get<std::string>()).empty())
      spoken |= kString;
    if (!schema.Has("type")) continue;
    named = true;
    const Json& type = schema.At("type");
    unsigned bits = 0;
    if (type.is_array()) {
      for (const Json& one : type) {
        HEADRACE_ASSIGN(const unsigned more, TypeBits(one, schema.Named("type")));
        bits |= more;
      }
    } else {
      HEADRACE_ASSIGN(bits, TypeBits(type, schema.Named("type")));
    }
    types &= bits;
  }
  // A schema without a type speaks of those that its keywords are for: narrower, and what was meant.
  return named || spoken == 0 ? types : spoken;
}

// A choice for each type that the set allows.
Result<std::vector<std::string>> Compiler::Typed(const Plain& plain) {
  HEADRACE_ASSIGN(const unsigned types, Types(plain));
  std::vector<std::string> choices;
  const auto add = [&](std::string choice) {
    if (!choice.empty()) choices.push_back(std::move(choice));
  };
  if (types & kObject) {
    HEADRACE_ASSIGN(std::string choice, Objects(plain));
    add(std::move(choice));
  }
  if (types & kArray) {
    HEADRACE_ASSIGN(std::string choice, Arrays(plain));
    add(std::move(choice));
  }
  if (types & kString) {
    HEADRACE_ASSIGN(std::string choice, Strings(plain));
    add(std::move(choice));
  }
  if (types & kInteger) {
    HEADRACE_ASSIGN(std::string choice, Numbers(plain, (types & kNumber) == 0));
    add(std::move(choice));
  }
  if (types & kBoolean) {
    add(R"("true")");
    add(R"("false")");
  }
  if (types & kNull) add(R"("null")");
  return choices;
}

Result<std::string> Compiler::Numbers(const Plain& plain, bool integer) {
  std::optional<Bound> least, most;
  std::vector<Automaton> multiples;
  for (const Sub& schema : plain) {
    for (const char* word : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}) {
      if (!schema.Has(word)) continue;
      const Json& value = schema.At(word);
      const std::string_view name = word;
      if (value.is_boolean() && name.starts_with("exclusive")) continue;  // draft 4: read with its bound
      if (!value.is_number())
        return Status::Invalid("the schema's " + schema.Named(word) + " must be a number");
      if (name == "multipleOf") {
        const auto divisor = value.get<double>();
        if (!(divisor >= 1 && divisor <= kMostDivisor && std::nearbyint(divisor) == divisor))
          return CannotHold(schema.Named(word));
        integer = true;
        multiples.push_back(Multiples(static_cast<int64_t>(divisor)));
        continue;
      }
      const bool lower = name.ends_with("inimum");
      const char* flag = lower ? "exclusiveMinimum" : "exclusiveMaximum";
      const bool exclusive = name.starts_with("exclusive") ||
                             (schema.Has(flag) && schema.At(flag).is_boolean() && schema.At(flag) == true);
      Tighten(lower ? &least : &most, value, exclusive, lower);
    }
  }
  if (!least && !most && multiples.empty()) return std::string(integer ? "integer" : "number");
  const auto said = [](const std::optional<Bound>& bound) {
    return bound ? (bound->exclusive ? ">" : "=") + bound->digits : "";
  };
  std::string key = (integer ? "i" : "n") + said(least) + " " + said(most);
  if (multiples.empty())
    if (const auto known = leaves_.find(key); known != leaves_.end()) return known->second;
  auto numbers = NumbersWithin(least, most, integer);
  for (const Automaton& one : multiples)
    if (numbers.ok()) numbers = numbers->Intersect(one);
  if (!numbers.ok())
    return Status(numbers.status().code(),
                  "the schema's " + PathOf(plain) + ": " + numbers.status().message());
  const std::string rule = numbers->empty() ? std::string() : rules_.Plain(*numbers);
  if (multiples.empty()) leaves_[key] = rule;
  return rule;
}

Result<std::string> Compiler::Strings(const Plain& plain) {
  HEADRACE_ASSIGN(const auto counts, Counts(plain, "minLength", "maxLength"));
  const auto [least, most] = counts;
  if (most >= 0 && most < least) return std::string();
  Patterns patterns;
  for (const Sub& schema : plain) {
    for (const char* word : {"pattern", "format"}) {
      if (!schema.Has(word)) continue;
      if (!schema.At(word).is_string())
        return Status::Invalid("the schema's " + schema.Named(word) + " must be a string");
      const std::string text = schema.At(word).get<std::string>();
      const std::string pattern =
          std::string_view(word) == "pattern" ? text : std::string(FormatPattern(text));
      if (!pattern.empty() || std::string_view(word) == "pattern")
        patterns.emplace_back(pattern, schema.Named(word));
    }
  }
  if (patterns.empty() && least == 0 && most < 0) return std::string("string");
  std::string key = "s" + std::to_string(least) + " " + std::to_string(most);
  for (const auto& [pattern, path] : patterns) key += '\0' + pattern;
  if (const auto known = leaves_.find(key); known != leaves_.end()) return known->second;
  HEADRACE_ASSIGN(const std::string rule, StringRule(patterns, least, most));
  leaves_[key] = rule;
  return rule;
}

Result<std::string> Compiler::StringRule(const Patterns& patterns, int64_t least, int64_t most) {
  const bool any_length = least == 0 && most < 0;
  if (patterns.empty()) return rules_.QuotedLength(least, most);
  Status problem;
  std::optional<Automaton> texts;
  for (const auto& [pattern, path] : patterns) {
    const auto one = document_.Pattern(pattern, path);
    if (!one.ok()) {
      problem = one.status();
      break;
    }
    if (!texts) {
      texts = **one;
      continue;
    }
    auto both = texts->Intersect(**one);
    if (!both.ok()) return both.status().Wrap("the schema's " + path);
    texts = std::move(*both);
  }
  if (patterns.size() == 1 && any_length && (!problem.ok() || texts->states().size() > kManyStates)) {
    const auto regex = ParseRegex(patterns[0].first);
    if (regex.ok())
      if (const auto inner = Anchored(*regex)) return rules_.QuotedRegex(*inner);
  }
  HEADRACE_TRY(problem);
  if (!any_length) {
    const auto lengths = Automaton::OfLength(least, most);
    auto both = lengths.ok() ? texts->Intersect(*lengths) : lengths;
    if (!both.ok()) return both.status().Wrap("the schema's " + patterns[0].second);
    texts = std::move(*both);
  }
  return texts->empty() ? std::string() : rules_.QuotedTexts(*texts);
}

}  // namespace headrace::schema
