// Rules: a grammar in XGrammar's EBNF, rule by rule, over the text of JSON documents.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "schema/automaton.h"

namespace headrace::schema {

class Rules {
 public:
  // Rules that every schema needs, by these names: value, object, array, string, number, integer.
  static constexpr char kValue[] = "value", kObject[] = "object";

  std::string NewName() { return "r" + std::to_string(next_++); }
  void Define(const std::string& name, std::string body) { bodies_[name] = std::move(body); }
  size_t count() const { return next_; }
  // The whole grammar, its first rule "root": what that refers to, and no other rule.
  std::string Grammar(const std::string& root) const;

  // A piece of a body: this text, byte for byte.
  static std::string Literal(std::string_view text);
  // … one character of a JSON string that stands for one of `set`, in its shortest form; a choice in
  // brackets.
  static std::string Character(const CharSet& set);
  // A rule for a JSON string, quotes and all, of the texts that an automaton accepts; of these numbers.
  std::string QuotedTexts(const Automaton& texts) { return OfAutomaton(texts, true); }
  std::string Plain(const Automaton& texts) { return OfAutomaton(texts, false); }
  // A rule for a JSON string of the texts of a regular expression, without an automaton.
  std::string QuotedRegex(const Regex& regex);
  // … of `least` to `most` characters.
  std::string QuotedLength(int64_t least, int64_t most);

 private:
  std::string OfAutomaton(const Automaton& texts, bool quoted);
  size_t next_ = 0;
  std::map<std::string, std::string> bodies_;
};

}  // namespace headrace::schema
