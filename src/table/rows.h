// Which rows of a fragment are wanted: a range, or picks inside it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"

namespace headrace::table {

// Rows by their offset in the fragment. A value type that borrows `picks`.
class Rows {
 public:
  static Rows Range(int64_t begin, int64_t end) { return Rows(begin, end, nullptr); }
  // `picks` ascending, repeats allowed; must outlive this.
  static Rows Picks(const std::vector<int64_t>& picks) {
    return picks.empty() ? Rows(0, 0, nullptr) : Rows(picks.front(), picks.back() + 1, &picks);
  }

  bool is_range() const { return picks_ == nullptr; }
  int64_t begin() const { return begin_; }
  int64_t end() const { return end_; }
  int64_t count() const { return picks_ ? static_cast<int64_t>(picks_->size()) : end_ - begin_; }
  int64_t at(int64_t i) const { return picks_ ? (*picks_)[static_cast<size_t>(i)] : begin_ + i; }

 private:
  Rows(int64_t begin, int64_t end, const std::vector<int64_t>* picks)
      : begin_(begin), end_(end), picks_(picks) {
    HEADRACE_CHECK(begin >= 0 && begin <= end);
  }
  int64_t begin_;
  int64_t end_;
  const std::vector<int64_t>* picks_;
};

}  // namespace headrace::table
