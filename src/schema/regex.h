// Regular expressions of ECMA-262, as JSON Schema's `pattern` writes them, parsed to a tree.
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"
#include "schema/char_set.h"

namespace headrace::schema {

struct Regex {
  enum class Kind {
    kSet,       // one character of `set`
    kSequence,  // `parts` one after another; none: the empty text
    kChoice,    // one of `parts`
    kRepeat,    // parts[0], `least` to `most` times
    kBegin,     // the beginning of the text (^)
    kEnd,       // its end ($)
  };
  Kind kind = Kind::kSequence;
  CharSet set = {};
  std::vector<Regex> parts = {};
  int least = 0, most = 0;  // most -1: no limit

  static Regex Set(CharSet set) { return {Kind::kSet, std::move(set)}; }
  static Regex Repeat(Regex part, int least, int most);
};

// kInvalid: the text is no regular expression. kUnsupported: it has what no automaton can hold or this parser
// does not know (look-around, back references, word boundaries, \p{…}); the message names it.
Result<Regex> ParseRegex(std::string_view pattern);

}  // namespace headrace::schema
