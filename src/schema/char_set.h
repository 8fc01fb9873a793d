// CharSet: a set of Unicode code points, as ascending ranges that neither touch nor overlap.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

namespace headrace::schema {

inline constexpr uint32_t kLastCodePoint = 0x10FFFF;

struct CharRange {
  uint32_t first = 0, last = 0;  // both belong to it
  bool operator==(const CharRange&) const = default;
};

class CharSet {
 public:
  CharSet() = default;
  CharSet(std::initializer_list<CharRange> ranges);
  static CharSet All() { return {{0, kLastCodePoint}}; }
  // All but surrogates, which UTF-8 cannot hold.
  static CharSet AllText() { return {{0, 0xD7FF}, {0xE000, kLastCodePoint}}; }

  void Add(CharRange range);
  void Add(const CharSet& other);
  CharSet Complement() const;
  CharSet Intersect(const CharSet& other) const;
  bool Contains(uint32_t c) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<CharRange>& ranges() const& { return ranges_; }
  std::vector<CharRange> ranges() && { return std::move(ranges_); }  // `for (… : set.Complement().ranges())`

 private:
  std::vector<CharRange> ranges_;
};

}  // namespace headrace::schema
