// A set of physical rows of one fragment, as a compressed bitmap: what a filter leaves, or what a delete
// took.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::table {

class RowSet {
 public:
  // From Roaring's portable format. Corrupt where that is damaged, or it does not hold `selected` rows, all
  // below `rows`.
  static Result<std::shared_ptr<const RowSet>> Parse(std::string_view portable, int64_t rows,
                                                     int64_t selected);
  // Rows ascending, without repeats; as `Parse` reads it.
  static std::string Encode(const std::vector<uint32_t>& rows);
  ~RowSet();
  RowSet(const RowSet&) = delete;
  RowSet& operator=(const RowSet&) = delete;

  int64_t count() const;
  // The row number `rank` (from 0) of the set, which has more than that.
  uint32_t Select(uint32_t rank) const;
  // Adds the set's rows in [begin, end) to `rows`, ascending.
  void AppendRange(int64_t begin, int64_t end, std::vector<int64_t>* rows) const;
  int64_t bytes() const;  // in memory

 private:
  RowSet() = default;
  void* bitmap_ = nullptr;
};

// Rows of a whole view: by index of the fragment; null where all of its rows are meant.
using RowSets = std::vector<std::shared_ptr<const RowSet>>;

}  // namespace headrace::table
