// Document: a JSON schema as it was given, and the way about it: subschemas, references, anchors.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "schema/automaton.h"

namespace headrace::schema {

using Json = nlohmann::ordered_json;  // the order of properties is the order of the answer

// A place in the document that is a schema.
struct Sub {
  const Json* json = nullptr;
  const Json* root =
      nullptr;       // the nearest schema around it with an $id, or the document: what "#" refers to
  std::string path;  // "#/properties/a", for messages

  bool Has(const char* keyword) const { return json->is_object() && json->contains(keyword); }
  const Json& At(const char* keyword) const { return (*json)[keyword]; }
  // The schema below a keyword, and below an entry of a keyword's object or array.
  Sub Below(const char* keyword) const;
  Sub Below(const char* keyword, const std::string& name) const;
  Sub Below(const char* keyword, size_t index) const;
  std::string Named(const char* keyword) const { return path + "/" + keyword; }
};

class Document {
 public:
  // kInvalid where the text is no JSON, or no schema by its first look; kLimit where it is nested too deep.
  static Result<std::shared_ptr<const Document>> Parse(const std::string& text);
  explicit Document(Json json) : json_(std::move(json)) {}
  Document(const Document&) = delete;  // a Sub points into it
  Document& operator=(const Document&) = delete;

  Sub root() const { return {&json_, &json_, "#"}; }
  // What $ref (or $recursiveRef) names. kUnsupported: it is outside of the document.
  Result<Sub> Resolve(const Sub& from, const std::string& reference) const;
  // Whether a list (enum) holds a value, by JSON Schema's equality: 1 is 1.0, the order of members is no
  // matter.
  bool Lists(const Json& list, const Json& value) const;
  // A pattern's automaton, made once. `where`: its path, for errors.
  Result<const Automaton*> Pattern(const std::string& pattern, const std::string& where) const;

 private:
  Result<Sub> Pointer(Sub from, const std::string& pointer, const std::string& reference) const;

  Json json_;
  mutable std::map<std::string, Automaton> patterns_;
  mutable std::map<const Json*, std::unordered_set<std::string>> lists_;  // their values in one spelling each
};

// A value as Python's json.dumps writes it, characters outside of ASCII as they are.
std::string Written(const Json& value);

}  // namespace headrace::schema
