// Marks: places in clients' texts, found again in a prompt that a template made of them. A mark is a
// noncharacter (U+FDD0 to U+FDEF, Unicode 23.7: for a program's own use) that none of the texts holds.
//
// Two uses. Names of control tokens in a client's text ("<|im_end|>") stand between `open` and `close`, and
// are tokenized as the letters they are; `tail` ends a message that is to go on.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace headrace::model {

class Model;

// The names of a vocabulary's control tokens.
class ControlNames {
 public:
  explicit ControlNames(const Model& model);
  // Bytes of the longest name that begins at `text[at]`; 0: none.
  size_t At(std::string_view text, size_t at) const;
  bool empty() const { return names_.empty(); }

 private:
  std::unordered_set<std::string> names_;
  std::vector<size_t> lengths_;  // that occur, the longest first
  std::vector<bool> first_;      // by byte: some name begins with it
};

// A stretch of a prompt.
struct PromptPart {
  std::string text;
  bool parse = true;  // names of control tokens stand for them; false: a client wrote this
};

class Marks {
 public:
  // Marks that none of `texts` holds.
  static Marks For(const std::vector<const std::string*>& texts);
  // The names in a client's text, marked. `thinking`: but for <think> and its end, which templates look for
  // in an assistant's turns.
  std::string Guard(const ControlNames& names, const std::string& text, bool thinking) const;
  const std::string& tail() const { return tail_; }
  // Cuts a prompt after the last `tail`; false: there is none.
  bool CutAtTail(std::string* prompt) const;
  // The prompt without marks, in parts.
  std::vector<PromptPart> Parts(std::string_view prompt) const;

 private:
  std::string open_, close_, tail_;
};

}  // namespace headrace::model
