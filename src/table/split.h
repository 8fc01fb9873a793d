// Stable splits: which part of a data set a key belongs to, from the key alone.
//
//   hash_fraction(key, seed)  =  (XXH3_64(text of the key, seed) >> 11) / 2^53, a number in [0, 1)
//   hash_split(key, 'train:0.9, val:0.05, test:0.05', seed): the first part whose shares, added up so far,
//   are more than that number
//
// Nothing else counts, so a row never changes sides when others come or go. docs/guide/expressions.md says
// what a key's text is, so that other programs can compute the same.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "table/decimal.h"

namespace headrace::table {

// The 53 bits of a key's hash that decide.
uint64_t SplitPosition(std::string_view key, uint64_t seed);
inline double SplitFraction(uint64_t position) { return static_cast<double>(position) * 0x1p-53; }

class Split {
 public:
  // "train:0.9, val:0.05": names with shares of up to 18 digits, which add up to 1 or less. What is missing
  // from 1 is in no part, unless it is less than a billionth: that is rounding.
  static Result<Split> Parse(std::string_view text);

  // The name of the part; null where the position is in none.
  const std::string* PartAt(uint64_t position) const;

 private:
  struct Part {
    std::string name;
    uint64_t end = 0;  // the first position after it
  };
  std::vector<Part> parts_;
};

// The texts of keys, one at a time. A text lives until the next is asked for.
class KeyTexts {
 public:
  std::string_view OfBool(bool value) { return value ? "true" : "false"; }
  std::string_view OfInt(int64_t value);
  std::string_view OfDecimal(Decimal value);  // without zeros at the end of the fraction
  std::string_view OfDate(int64_t days);      // 2026-11-22
  std::string_view OfNanos(Int128 since_1970);

 private:
  std::string text_;
};

}  // namespace headrace::table
