#include "schema/char_set.h"

#include <algorithm>

namespace headrace::schema {

CharSet::CharSet(std::initializer_list<CharRange> ranges) {
  for (const CharRange range : ranges) Add(range);
}

void CharSet::Add(CharRange range) {
  std::vector<CharRange> merged;
  merged.reserve(ranges_.size() + 1);
  bool placed = false;
  for (const CharRange& have : ranges_) {
    if (have.last + 1 < range.first) {  // wholly before
      merged.push_back(have);
    } else if (range.last + 1 < have.first) {  // wholly after
      if (!placed) merged.push_back(range);
      placed = true;
      merged.push_back(have);
    } else {
      range = {std::min(range.first, have.first), std::max(range.last, have.last)};
    }
  }
  if (!placed) merged.push_back(range);
  ranges_ = std::move(merged);
}

void CharSet::Add(const CharSet& other) {
  for (const CharRange range : other.ranges_) Add(range);
}

CharSet CharSet::Complement() const {
  CharSet rest;
  uint32_t next = 0;
  for (const CharRange& range : ranges_) {
    if (range.first > next) rest.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) rest.ranges_.push_back({next, kLastCodePoint});
  return rest;
}

CharSet CharSet::Intersect(const CharSet& other) const {
  CharSet both;
  size_t i = 0, j = 0;
  while (i < ranges_.size() && j < other.ranges_.size()) {
    const CharRange a = ranges_[i], b = other.ranges_[j];
    const CharRange common = {std::max(a.first, b.first), std::min(a.last, b.last)};
    if (common.first <= common.last) both.ranges_.push_back(common);
    (a.last < b.last ? i : j)++;
  }
  return both;
}

bool CharSet::Contains(uint32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [c](const CharRange& range) { return c >= range.first && c <= range.last; });
}

}  // namespace headrace::schema
