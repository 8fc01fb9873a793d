// Row ids and places: the one layer that knows which is which.
//
// A row id is for life; a place is a fragment and a physical row of its files. Everything that reads files
// (scan, take, streams) counts physical rows; everything that a person sees has ids. Today row i of a
// fragment has the id first_row_id + i. Deleted rows, and fragments whose ids stand in a column of their own
// (compaction), change this class and nothing else.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/fragment.h"
#include "table/rows.h"

namespace headrace::table {

struct RowPlace {
  int32_t fragment = 0;  // index in the view's fragments
  int32_t row = 0;       // physical, in that fragment
};

class RowMap {
 public:
  // Of a view's fragments, which ascend by row id and must outlive this.
  explicit RowMap(const std::vector<Fragment>& fragments) : fragments_(fragments) {}

  // The physical rows of a fragment: what its files hold.
  static int64_t PhysicalRows(const Fragment& fragment) { return fragment.rows; }
  static int64_t IdOf(const Fragment& fragment, int64_t row) { return fragment.first_row_id + row; }
  int64_t IdOf(const RowPlace& place) const {
    return IdOf(fragments_[static_cast<size_t>(place.fragment)], place.row);
  }
  // Nothing where no row has this id.
  std::optional<RowPlace> Find(int64_t row_id) const;

  // Some rows of one fragment, ascending; repeats allowed.
  struct Picks {
    size_t fragment = 0;
    std::vector<int64_t> rows;
  };
  // The places of these ids, which ascend (repeats allowed), fragment by fragment. NotFound names the first
  // id that no row has.
  Result<std::vector<Picks>> FindAll(const std::vector<int64_t>& row_ids) const;

  // The ids of some rows, as the row-id column has them.
  static std::shared_ptr<arrow::Array> Ids(const Fragment& fragment, const Rows& rows);
  // Statistics of the row-id column over the physical rows [begin, end).
  static FieldStats IdStats(const Fragment& fragment, int64_t begin, int64_t end);
  // The fragment that has exactly the rows of `entry` (a manifest entry made earlier); null where those rows
  // have been rewritten since.
  const Fragment* Same(const Fragment& entry) const;
  // The one that has all rows of `entry`: the same, or one that compaction wrote since. Null where there is
  // none.
  const Fragment* Holding(const Fragment& entry) const;

 private:
  const std::vector<Fragment>& fragments_;
};

}  // namespace headrace::table
