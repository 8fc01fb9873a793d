// Numbers in text that a type gives back with the same digits.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace headrace::ingest {

inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// -?(0|[1-9][0-9]*), in T's range: no leading zeros, no plus, no "-0".
template <typename T>
bool ParseInteger(std::string_view text, T* value) {
  const char* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, *value);
  if (error != std::errc() || last != end) return false;
  if (text == "-0") return false;
  if (text[0] == '-') text.remove_prefix(1);
  return text[0] != '0' || text.size() == 1;
}

// A decimal number that a float64 gives back with the same digits, an integer to its last one (".5" and "5."
// are numbers too).
bool IsExactDouble(std::string_view text);

// The nearest float64 of such a number, or of NaN, Infinity, -Infinity.
double DoubleOf(std::string_view text);

}  // namespace headrace::ingest
