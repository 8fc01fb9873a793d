// Automaton: a set of texts as a deterministic finite automaton over code points. Patterns, lengths, formats
// and names of a JSON schema meet here: what has to hold of one string is the intersection of all of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "schema/regex.h"

namespace headrace::schema {

class Automaton {
 public:
  struct Edge {
    uint32_t first = 0, last = 0;  // code points
    int32_t to = 0;
  };
  struct State {
    std::vector<Edge> edges;  // ascending, disjoint; a character without one leads nowhere
    bool accepts = false;
  };
  static constexpr size_t kMostStates = 1024;

  // The texts in which `pattern` matches somewhere (JSON Schema's meaning: anchors are the pattern's affair).
  // kLimit beyond kMostStates.
  static Result<Automaton> OfPattern(const Regex& pattern);
  // Every text of `least` to `most` characters; most -1: no limit.
  static Result<Automaton> OfLength(int64_t least, int64_t most);
  static Automaton OfTexts(const std::vector<std::string>& texts);
  static Automaton All();
  // Made state by state, the first of them 0.
  static Automaton OfStates(std::vector<State> states) { return Automaton(std::move(states)); }

  Result<Automaton> Intersect(const Automaton& other) const;
  Automaton Complement() const;
  bool Accepts(std::string_view utf8) const;
  bool empty() const { return states_.empty(); }  // it accepts no text

  // Smallest form: state 0 is the first, from every state some end is in reach. No state: no text.
  const std::vector<State>& states() const { return states_; }

 private:
  explicit Automaton(std::vector<State> states);
  void DropDeadEnds();
  void MergeEqualStates();
  std::vector<State> states_;
};

}  // namespace headrace::schema
