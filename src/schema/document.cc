#include "schema/document.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "base/ordered_json.h"
#include "schema/json_schema.h"

namespace headrace::schema {
namespace {

constexpr int kMaxSchemaDepth = 256;

// `$id`, or draft 4's `id`, where it names a document and not an anchor.
const std::string* IdOf(const Json& schema) {
  if (!schema.is_object()) return nullptr;
  for (const char* word : {"$id", "id"}) {
    const auto found = schema.find(word);
    if (found == schema.end() || !found->is_string()) continue;
    const std::string& id = found->get_ref<const std::string&>();
    if (!id.empty() && id[0] != '#') return &id;
  }
  return nullptr;
}

Sub Under(const Sub& parent, const Json& child, std::string path) {
  return {&child, IdOf(child) != nullptr ? &child : parent.root, std::move(path)};
}

// The first schema, in the document's order, for which `is` holds.
const Json* Search(const Json& from, const std::function<bool(const Json&)>& is) {
  if (from.is_object() && is(from)) return &from;
  if (from.is_structured())
    for (const Json& child : from)
      if (const Json* found = Search(child, is)) return found;
  return nullptr;
}

// One spelling for all that is equal.
std::string Spelled(const Json& value) {
  if (value.is_number_float()) {
    const auto number = value.get<double>();
    if (std::nearbyint(number) == number && std::abs(number) < 1e15)
      return std::to_string(static_cast<int64_t>(number));
  }
  if (!value.is_structured()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::vector<std::string> parts;
  for (const auto& [name, member] : value.items())
    parts.push_back(
        (value.is_object() ? Json(name).dump(-1, ' ', false, Json::error_handler_t::replace) + ":" : "") +
        Spelled(member));
  if (value.is_object()) std::sort(parts.begin(), parts.end());
  std::string text = value.is_object() ? "{" : "[";
  for (const std::string& part : parts) text += part + ",";
  return text + (value.is_object() ? "}" : "]");
}

std::string Unescaped(std::string_view token) {  // RFC 6901 in a URI's fragment
  std::string percent;
  for (size_t i = 0; i < token.size(); ++i) {
    unsigned code = 0;
    if (token[i] == '%' && i + 2 < token.size() &&
        std::sscanf(std::string(token.substr(i + 1, 2)).c_str(), "%2x", &code) == 1) {
      percent += static_cast<char>(code);
      i += 2;
    } else {
      percent += token[i];
    }
  }
  std::string name;
  for (size_t i = 0; i < percent.size(); ++i) {
    const bool escape =
        percent[i] == '~' && i + 1 < percent.size() && (percent[i + 1] == '0' || percent[i + 1] == '1');
    name += escape ? (percent[i + 1] == '0' ? '~' : '/') : percent[i];
    if (escape) ++i;
  }
  return name;
}

}  // namespace

Sub Sub::Below(const char* keyword) const { return Under(*this, At(keyword), Named(keyword)); }
Sub Sub::Below(const char* keyword, const std::string& name) const {
  return Under(*this, At(keyword)[name], Named(keyword) + "/" + name);
}
Sub Sub::Below(const char* keyword, size_t index) const {
  return Under(*this, At(keyword)[index], Named(keyword) + "/" + std::to_string(index));
}

std::string Written(const Json& value) {
  if (!value.is_structured()) return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string text;
  for (const auto& [name, member] : value.items()) {
    if (!text.empty()) text += ", ";
    if (value.is_object()) text += Json(name).dump(-1, ' ', false, Json::error_handler_t::replace) + ": ";
    text += Written(member);
  }
  return value.is_object() ? "{" + text + "}" : "[" + text + "]";
}

namespace {

Status CheckDepth(const std::string& text) {
  if (JsonDepth(text) > kMaxSchemaDepth)
    return Status::Limit("the schema is nested more than " + std::to_string(kMaxSchemaDepth) + " deep");
  return Status::Ok();
}

Status CheckSyntax(const std::string& text) {
  return Json::accept(text) ? Status::Ok() : Status::Invalid("the schema is not JSON");
}

}  // namespace

Status CheckJsonText(const std::string& text) {
  HEADRACE_TRY(CheckDepth(text));
  return CheckSyntax(text);
}

Result<std::shared_ptr<const Document>> Document::Parse(const std::string& text) {
  HEADRACE_TRY(CheckDepth(text));
  auto json = ParseOrderedJson(text);
  if (!json.ok()) {
    HEADRACE_TRY(CheckSyntax(text));
    return json.status().Wrap("the schema cannot be read");  // a name that stands twice
  }
  if (!json->is_object() && !json->is_boolean())
    return Status::Invalid("a JSON schema is an object, true or false");
  return std::shared_ptr<const Document>(std::make_shared<Document>(std::move(*json)));
}

Result<Sub> Document::Resolve(const Sub& from, const std::string& reference) const {
  const size_t hash = reference.find('#');
  const std::string document = reference.substr(0, hash);
  const std::string fragment = hash == std::string::npos ? "" : reference.substr(hash + 1);
  const Json* root = from.root;
  if (!document.empty()) {
    root = Search(json_, [&](const Json& schema) {
      const std::string* id = IdOf(schema);
      if (id == nullptr) return false;
      const std::string name = id->substr(0, id->find('#'));
      // A relative name is known by its last part: nothing here has a base outside of the document.
      return name == document || name.ends_with("/" + document) || document.ends_with("/" + name);
    });
    if (root == nullptr)
      return Status::Unsupported("the schema's " + from.path + "/$ref names '" + reference +
                                 "', which is outside of the schema; put it into $defs");
  }
  const Sub start{root, root, document + "#"};
  if (fragment.empty()) return start;
  if (fragment[0] == '/') return Pointer(start, fragment, reference);
  const Json* anchored = Search(*root, [&](const Json& schema) {
    for (const char* word : {"$anchor", "$dynamicAnchor", "id", "$id"}) {
      const auto found = schema.find(word);
      if (found == schema.end() || !found->is_string()) continue;
      const std::string& name = found->get_ref<const std::string&>();
      if (name == fragment ? word[1] != 'i' && word[0] == '$' : name == "#" + fragment) return true;
    }
    return false;
  });
  if (anchored == nullptr)
    return Status::Invalid("the schema's " + from.path + "/$ref names '" + reference +
                           "', and there is no such anchor");
  return Sub{anchored, root, "#" + fragment};
}

Result<Sub> Document::Pointer(Sub at, const std::string& pointer, const std::string& reference) const {
  for (size_t begin = 1; begin <= pointer.size();) {
    const size_t end = std::min(pointer.find('/', begin), pointer.size());
    const std::string name = Unescaped(std::string_view(pointer).substr(begin, end - begin));
    const Json* next = nullptr;
    if (at.json->is_object() && at.json->contains(name)) {
      next = &(*at.json)[name];
    } else if (at.json->is_array() && !name.empty() && name.size() < 7 &&
               name.find_first_not_of("0123456789") == std::string::npos &&
               std::stoul(name) < at.json->size()) {
      next = &(*at.json)[std::stoul(name)];
    }
    if (next == nullptr)
      return Status::Invalid("the schema's $ref '" + reference + "' names nothing: there is no '" + name +
                             "' in " + at.path);
    at = Under(at, *next, at.path + "/" + name);
    begin = end + 1;
  }
  if (!at.json->is_object() && !at.json->is_boolean())
    return Status::Invalid("the schema's $ref '" + reference + "' names no schema");
  return at;
}

bool Document::Lists(const Json& list, const Json& value) const {
  const auto [place, fresh] = lists_.try_emplace(&list);
  if (fresh)
    for (const Json& one : list) place->second.insert(Spelled(one));
  return place->second.contains(Spelled(value));
}

Result<const Automaton*> Document::Pattern(const std::string& pattern, const std::string& where) const {
  const auto found = patterns_.find(pattern);
  if (found != patterns_.end()) return &found->second;
  const auto make = [&]() -> Result<Automaton> {
    HEADRACE_ASSIGN(const Regex regex, ParseRegex(pattern));
    return Automaton::OfPattern(regex);
  };
  auto made = make();
  if (!made.ok())
    return Status(made.status().code(), "the schema's " + where + ": " + made.status().message());
  return &patterns_.emplace(pattern, std::move(*made)).first->second;
}

}  // namespace headrace::schema
