// Which fragment has a row.
//
// A row id is for life; a place is a fragment and a physical row of its files. Everything that reads files
// (scan, take, streams) counts physical rows; everything that a person sees has ids. A fragment has a range
// of ids, one for each of its rows; which row has which is what RowIds knows.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "table/fragment.h"
#include "table/row_ids.h"

namespace headrace::table {

struct RowPlace {
  int32_t fragment = 0;  // index in the view's fragments
  int32_t row = 0;       // physical, in that fragment
};

// Ids of one fragment, ascending; repeats allowed.
struct FragmentIds {
  size_t fragment = 0;
  std::vector<int64_t> ids;
};

class RowMap {
 public:
  // Of a view's fragments, which ascend by row id and must outlive this.
  explicit RowMap(const std::vector<Fragment>& fragments) : fragments_(fragments) {}

  // The index of the fragment that has the row; nothing where none does.
  std::optional<size_t> Find(int64_t row_id) const;
  // These ids, which ascend (repeats allowed), fragment by fragment. NotFound names the first that no row
  // has.
  Result<std::vector<FragmentIds>> FindAll(const std::vector<int64_t>& row_ids) const;

  // The fragment that has exactly the rows of `entry` (a manifest entry made earlier); null where those rows
  // have been rewritten since.
  const Fragment* Same(const Fragment& entry) const;
  // The one that has all rows of `entry`, in their order: the same, or one that compaction wrote since. Null
  // where there is none.
  const Fragment* Holding(const Fragment& entry) const;

 private:
  const std::vector<Fragment>& fragments_;
};

}  // namespace headrace::table
