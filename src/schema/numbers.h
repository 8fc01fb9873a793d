// Numbers of JSON within bounds, as automata over their digits.
#pragma once

#include <optional>
#include <string>

#include "schema/automaton.h"

namespace headrace::schema {

// A bound of `minimum`, `exclusiveMaximum` and the like.
struct Bound {
  std::string digits;  // as JSON writes the number, exponent and all
  bool exclusive = false;
};

// The numbers between two bounds, `integer` ones without a fraction, none with an exponent. A number with a
// fraction has at most 15 significant digits: so many keep their order when they become doubles, and a reader
// that compares doubles finds them within the bounds too.
Result<Automaton> NumbersWithin(const std::optional<Bound>& least, const std::optional<Bound>& most,
                                bool integer);

// The integers that `divisor` divides, up to kMostDivisor.
inline constexpr int64_t kMostDivisor = 1000;
Automaton Multiples(int64_t divisor);

// The value of a number's text without an exponent: "-12.5e1" is "-125". kUnsupported for more than 400
// digits.
Result<std::string> PlainDecimal(const std::string& number);

}  // namespace headrace::schema
