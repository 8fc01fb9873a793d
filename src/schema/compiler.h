// Compiler: from a JSON schema to rules. A value's rule is made for a *set* of schemas that must all hold of
// it (a schema, what it refers to, what allOf holds): keywords meet there and are intersected. Of anyOf and
// oneOf one branch joins the set at a time, and the rule is the choice between what comes out.
//
// A rule may write less than the schema allows (order of properties, no undeclared properties where some are
// declared and nothing is said of others, numbers without exponents), never more: what cannot be held is
// refused with its path.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "schema/document.h"
#include "schema/numbers.h"
#include "schema/rules.h"

namespace headrace::schema {

class Compiler {
 public:
  explicit Compiler(const Document& document) : document_(document) {}

  // The grammar of the whole document.
  Result<std::string> Grammar();

 private:
  // A member of a set. `decided`: its references and combinations are in the set already.
  struct Item {
    Sub schema;
    bool decided = false;
  };
  using Items = std::vector<Item>;
  struct Group {
    std::vector<Sub> branches;
    bool exclusive = false;  // oneOf
    std::string path;
  };
  // A set with its references followed: keywords of `plain` hold, and a branch of each group.
  struct Flat {
    std::vector<Sub> plain;
    std::vector<Group> groups;
    bool never = false;
  };
  using Plain = std::vector<Sub>;
  struct Rule {
    std::string name;
    bool open = true;   // being made
    bool used = false;  // referred to while it was open
  };
  // An object's property, or a kind of undeclared ones.
  struct Property {
    std::string name;   // declared: its name
    std::string key;    // the rule or literal of its name, quotes and all
    std::string value;  // its rule
    bool required = false;
  };

  // The rule of the values for which all of them hold; "" where there is none.
  Result<std::string> Values(const Items& items);
  Result<std::string> Make(const Items& items, const Flat& flat);
  Result<Flat> Flatten(const Items& items) const;
  Status FollowOne(const Sub& schema, std::vector<Item>* open, Flat* flat) const;
  Result<std::vector<std::string>> Branches(const Items& decided, const Flat& flat);
  Status CheckExclusive(const Items& decided, const Group& group);

  // compile_values.cc
  static const Json* Listed(const Plain& plain);
  Result<std::string> Literals(const Items& items, const Flat& flat, const Json& listed) const;
  Result<std::vector<std::string>> Typed(const Plain& plain);
  static Result<unsigned> Types(const Plain& plain);
  Result<std::string> Numbers(const Plain& plain, bool integer);
  // Patterns and their paths: of `pattern` and `format`.
  using Patterns = std::vector<std::pair<std::string, std::string>>;
  Result<std::string> Strings(const Plain& plain);
  Result<std::string> StringRule(const Patterns& patterns, int64_t least, int64_t most);

  // compile_containers.cc
  Result<std::string> Arrays(const Plain& plain);
  Result<std::string> Objects(const Plain& plain);
  Result<std::vector<std::string>> Names(const Plain& plain) const;
  Result<std::optional<Property>> Declared(const Plain& plain, const std::string& name, bool required);
  Result<std::vector<Property>> Undeclared(const Plain& plain, const std::vector<std::string>& declared);
  Result<std::string> Members(const std::vector<Property>& declared, const std::vector<Property>& more,
                              int64_t least, int64_t most, const std::string& path);

  std::string OneOf(const std::vector<std::string>& choices);
  // Where a set of schemas stands, for errors; the set of no schemas is any value.
  static std::string PathOf(const Plain& plain);
  static Status TooMany(const std::string& path);

  const Document& document_;
  Rules rules_;
  std::map<std::vector<std::pair<const Json*, int>>, Rule> made_;
  std::map<std::string, std::string> leaves_;  // rules of strings and numbers by what holds of them
  int depth_ = 0;
  bool comparing_ = false;  // whether two branches of a oneOf may both hold
};

// The largest `least` word and the smallest `most` word of a set: minLength and maxLength and the like. -1:
// no most.
Result<std::pair<int64_t, int64_t>> Counts(const std::vector<Sub>& plain, const char* least,
                                           const char* most);
Status CannotHold(const std::string& path);
// Refuses these keywords wherever they stand.
Status RefuseAny(const std::vector<Sub>& plain, std::initializer_list<const char*> words);

}  // namespace headrace::schema
