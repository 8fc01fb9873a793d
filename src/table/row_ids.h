// The ids of one fragment's rows, and where each lies.
//
// A fragment has the ids [first_row_id, first_row_id + rows), one for each row of its files. In their order,
// unless its rows were sorted (sort_rows.h): then a column of its own says which is where.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/fragment.h"
#include "table/rows.h"
#include "table/schema.h"

namespace headrace::table {

// The field of the column of ids, in files of fragments that were sorted. No column of a table has it.
inline constexpr int32_t kRowIdField = 0;
// Of what is computed and never stored: the first row's id plus the place. It ascends along a scan, as ids do
// only where nothing was sorted.
inline constexpr int32_t kRowPlaceField = -2;

Field RowIdField();
Field RowPlaceField();

// Whether the rows may lie in another order than their ids.
inline bool IsSorted(const Fragment& fragment) { return fragment.FileOf(kRowIdField) != nullptr; }

class RowIds {
 public:
  // Of a fragment whose rows lie in order of their ids.
  explicit RowIds(const Fragment& fragment) : first_(fragment.first_row_id), rows_(fragment.rows) {}
  // Of one that was sorted. Corrupt unless `ids`, by place, are each of the fragment's once.
  static Result<RowIds> Of(const Fragment& fragment, const arrow::Int64Array& ids);

  bool ascend() const { return sorted_ == nullptr; }
  int64_t IdAt(int64_t place) const {
    return first_ + (sorted_ == nullptr ? place : sorted_->offsets[static_cast<size_t>(place)]);
  }
  // `id` must be one of the fragment's.
  int64_t PlaceOf(int64_t id) const {
    const int64_t offset = id - first_;
    return sorted_ == nullptr ? offset : sorted_->places[static_cast<size_t>(offset)];
  }
  // The places of those ids in [begin, end) that are the fragment's, ascending.
  std::vector<uint32_t> PlacesIn(int64_t begin, int64_t end) const;

 private:
  struct Sorted {
    std::vector<uint32_t> offsets;  // by place: the id, less the first
    std::vector<uint32_t> places;   // the other way
  };
  int64_t first_ = 0;
  int64_t rows_ = 0;
  std::shared_ptr<const Sorted> sorted_;
};

// `first_row_id` plus the place of some rows, as the column of places has them.
std::shared_ptr<arrow::Array> PlacesOf(const Fragment& fragment, const Rows& rows);
// Statistics of that column over the places [begin, end).
FieldStats PlaceStats(const Fragment& fragment, int64_t begin, int64_t end);

}  // namespace headrace::table
