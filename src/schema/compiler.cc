#include "schema/compiler.h"

#include <algorithm>
#include <utility>

#include "schema/json_schema.h"

namespace headrace::schema {
namespace {

constexpr int kDeepestSchema = 300;  // levels and references
constexpr size_t kMostRules = 100000;
constexpr size_t kMostCombinations = 512;  // of the branches of several anyOf

}  // namespace

Status CannotHold(const std::string& path) {
  return Status::Unsupported("the schema's " + path +
                             " cannot be enforced; leave it out, or check the answer yourself");
}

Status RefuseAny(const std::vector<Sub>& plain, std::initializer_list<const char*> words) {
  for (const Sub& schema : plain)
    for (const char* word : words)
      if (schema.Has(word)) return CannotHold(schema.Named(word));
  return Status::Ok();
}

std::string Compiler::PathOf(const Plain& plain) { return plain.empty() ? "#" : plain[0].path; }

Status Compiler::TooMany(const std::string& path) {
  return Status::Limit("the schema needs a grammar of more than " + std::to_string(kMostRules) +
                       " rules; they are used up at " + path);
}

Result<std::string> Compiler::Grammar() {
  HEADRACE_ASSIGN(const std::string root, Values({{document_.root()}}));
  if (root.empty()) return Status::Invalid("the schema allows no value at all");
  return rules_.Grammar(root);
}

// Follows references and allOf, and collects what has branches.
Result<Compiler::Flat> Compiler::Flatten(const Items& items) const {
  Flat flat;
  std::vector<Item> open;
  for (const Item& item : items) {
    if (item.decided) {
      flat.plain.push_back(item.schema);
    } else {
      open.push_back(item);
    }
  }
  for (size_t i = 0; i < open.size(); ++i) {
    const Sub schema = open[i].schema;
    if (schema.json->is_boolean()) {
      flat.never = flat.never || !schema.json->get<bool>();
      continue;
    }
    if (!schema.json->is_object())
      return Status::Invalid("the schema's " + schema.path + " must be an object, true or false");
    if (std::any_of(flat.plain.begin(), flat.plain.end(),
                    [&](const Sub& s) { return s.json == schema.json; }))
      continue;
    flat.plain.push_back(schema);
    HEADRACE_TRY(FollowOne(schema, &open, &flat));
  }
  return flat;
}

Status Compiler::FollowOne(const Sub& schema, std::vector<Item>* open, Flat* flat) const {
  for (const char* word : {"$ref", "$recursiveRef"}) {
    if (!schema.Has(word) || !schema.At(word).is_string()) continue;
    HEADRACE_ASSIGN(const Sub target, document_.Resolve(schema, schema.At(word).get<std::string>()));
    open->push_back({target});
  }
  // `not` of everything is nothing; any other is held by lists of constants only.
  if (schema.Has("not") &&
      (schema.At("not") == true || (schema.At("not").is_object() && schema.At("not").empty())))
    flat->never = true;
  if (schema.Has("$dynamicRef")) return CannotHold(schema.Named("$dynamicRef"));
  for (const char* word : {"allOf", "anyOf", "oneOf"}) {
    if (!schema.Has(word)) continue;
    const Json& list = schema.At(word);
    if (!list.is_array() || list.empty())
      return Status::Invalid("the schema's " + schema.Named(word) +
                             " must be an array of schemas, not empty");
    Group group{{}, std::string_view(word) == "oneOf", schema.Named(word)};
    for (size_t i = 0; i < list.size(); ++i) group.branches.push_back(schema.Below(word, i));
    if (std::string_view(word) == "allOf") {
      for (Sub& branch : group.branches) open->push_back({std::move(branch)});
    } else {
      flat->groups.push_back(std::move(group));
    }
  }
  return Status::Ok();
}

Result<std::string> Compiler::Values(const Items& items) {
  HEADRACE_ASSIGN(const Flat flat, Flatten(items));
  if (flat.never) return std::string();
  std::vector<std::pair<const Json*, int>> key;
  for (const Sub& schema : flat.plain) key.emplace_back(schema.json, 0);
  for (const Group& group : flat.groups) key.emplace_back(group.branches[0].json, 1);
  const bool beside = std::any_of(items.begin(), items.end(), [](const Item& item) { return item.decided; });
  if (comparing_ && beside) key.emplace_back(nullptr, 0);
  std::sort(key.begin(), key.end());
  const auto [place, fresh] = made_.try_emplace(key);
  if (!fresh) {
    place->second.used = place->second.used || place->second.open;
    return place->second.name;
  }
  const std::string path =
      flat.plain.empty() && !flat.groups.empty() ? flat.groups[0].path : PathOf(flat.plain);
  if (++depth_ > kDeepestSchema)
    return Status::Limit("the schema is nested too deep at " + path + ", references followed");
  if (rules_.count() > kMostRules) return TooMany(path);
  Rule& rule = place->second;  // a map's places stay
  rule.name = rules_.NewName();
  HEADRACE_ASSIGN(const std::string body, Make(items, flat));
  rule.open = false;
  --depth_;
  if (body.empty()) {
    if (rule.used)
      return Status::Unsupported("the schema refers to a part of itself that no value can match: " + path);
    rule.name.clear();
    return std::string();
  }
  rules_.Define(rule.name, body);
  return rule.name;
}

// The body of a set's rule; "" where there is no value.
Result<std::string> Compiler::Make(const Items& items, const Flat& flat) {
  if (const Json* listed = Listed(flat.plain)) return Literals(items, flat, *listed);
  HEADRACE_TRY(RefuseAny(flat.plain, {"not", "if"}));
  std::vector<std::string> choices;
  if (flat.groups.empty()) {
    HEADRACE_ASSIGN(choices, Typed(flat.plain));
  } else {
    Items decided;
    for (const Sub& schema : flat.plain) decided.push_back({schema, true});
    for (const Group& group : flat.groups)
      if (group.exclusive) HEADRACE_TRY(CheckExclusive(decided, group));
    HEADRACE_ASSIGN(choices, Branches(decided, flat));
  }
  std::string body;
  for (const std::string& choice : choices) body += (body.empty() ? "" : " | ") + choice;
  return body;
}

// A rule for every way of taking one branch of each group.
Result<std::vector<std::string>> Compiler::Branches(const Items& decided, const Flat& flat) {
  std::vector<Items> ways = {decided};
  for (const Group& group : flat.groups) {
    std::vector<Items> longer;
    for (const Items& way : ways) {
      for (const Sub& branch : group.branches) {
        longer.push_back(way);
        longer.back().push_back({branch});
      }
    }
    ways = std::move(longer);
    if (ways.size() > kMostCombinations)
      return Status::Limit("the schema's " + group.path + " and others beside it combine in more than " +
                           std::to_string(kMostCombinations) + " ways");
  }
  std::vector<std::string> choices;
  for (const Items& way : ways) {
    HEADRACE_ASSIGN(std::string choice, Values(way));
    if (!choice.empty() && std::find(choices.begin(), choices.end(), choice) == choices.end())
      choices.push_back(std::move(choice));
  }
  return choices;
}

// oneOf is anyOf where no value matches two of its branches.
Status Compiler::CheckExclusive(const Items& decided, const Group& group) {
  for (size_t i = 0; i < group.branches.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      Items both = decided;
      both.push_back({group.branches[j]});
      both.push_back({group.branches[i]});
      const int depth = depth_;
      const bool comparing = std::exchange(comparing_, true);
      const auto rule = Values(both);
      comparing_ = comparing;
      depth_ = depth;
      if (rule.ok() && rule->empty()) continue;
      return Status::Unsupported("the schema's " + group.path + ", whose choices " + std::to_string(j) +
                                 " and " + std::to_string(i) +
                                 " may both hold, cannot be enforced; use anyOf, or tell them apart by a "
                                 "constant of a required property");
    }
  }
  return Status::Ok();
}

std::string Compiler::OneOf(const std::vector<std::string>& choices) {
  std::string body;
  for (const std::string& choice : choices) body += (body.empty() ? "" : " | ") + choice;
  return choices.size() == 1 ? body : "(" + body + ")";
}

Result<std::string> SchemaGrammar(const std::string& schema) {
  HEADRACE_ASSIGN(const auto document, Document::Parse(schema));
  return Compiler(*document).Grammar();
}

}  // namespace headrace::schema
