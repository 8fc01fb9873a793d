// A set of physical rows of one fragment, as a compressed bitmap: what a filter leaves, what a delete took,
// or which rows an overlay has values for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::table {

// Immutable; may be read from many threads.
class RowSet {
 public:
  // Rows ascending, without repeats.
  static std::shared_ptr<const RowSet> Of(const std::vector<uint32_t>& rows);
  // The rows in [begin, end).
  static std::shared_ptr<const RowSet> Range(int64_t begin, int64_t end);
  // From Roaring's portable format. Corrupt where that is damaged, or it does not hold `selected` rows, all
  // below `rows`.
  static Result<std::shared_ptr<const RowSet>> Parse(std::string_view portable, int64_t rows,
                                                     int64_t selected);
  // The same as text for `Parse`.
  static std::string Encode(const std::vector<uint32_t>& rows) { return Of(rows)->Encode(); }
  std::string Encode() const;
  ~RowSet();
  RowSet(const RowSet&) = delete;
  RowSet& operator=(const RowSet&) = delete;

  std::shared_ptr<const RowSet> Union(const RowSet& other) const;
  std::shared_ptr<const RowSet> Without(const RowSet& other) const;
  // All rows below `rows` that are not in this set.
  std::shared_ptr<const RowSet> Complement(int64_t rows) const;

  int64_t count() const;
  bool Contains(int64_t row) const;
  // How many rows of the set lie below `row`.
  int64_t Rank(int64_t row) const;
  // The row number `rank` (from 0) of the set, which has more than that.
  uint32_t Select(uint32_t rank) const;
  // Adds the set's rows in [begin, end) to `rows`, ascending.
  void AppendRange(int64_t begin, int64_t end, std::vector<int64_t>* rows) const;
  // Adds the rows in [begin, end) that are not in the set.
  void AppendOthers(int64_t begin, int64_t end, std::vector<int64_t>* rows) const;
  int64_t bytes() const;  // in memory

 private:
  explicit RowSet(void* bitmap) : bitmap_(bitmap) {}
  static std::shared_ptr<const RowSet> Own(void* bitmap);
  void* bitmap_;
};

// Rows of a whole view: by index of the fragment; null where all of its rows are meant.
using RowSets = std::vector<std::shared_ptr<const RowSet>>;

}  // namespace headrace::table
