// Lists, maps and structs out of the levels of their leaves: what Dremel calls record assembly
// (https://research.google/pubs/pub36632/; Parquet's levels are the same).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include <arrow/type_fwd.h>
#include <parquet/types.h>

#include "table/page.h"
#include "table/schema.h"

namespace headrace::table {

// Of one leaf, of some rows: an entry for each value, and for each list that ends above one.
struct NestedLeaf {
  std::vector<parquet::Repetition::type> path;  // of the nodes from the top-level field to the leaf
  std::vector<uint8_t> definition;              // levels, by entry
  std::vector<uint8_t> repetition;              // 0: a row begins
  std::shared_ptr<arrow::Array> values;  // of the entries that the innermost list has, nulls among them
};

// The definition level from which on an entry is one of the innermost list above the leaf; 0 where none is.
int ListedLevel(const std::vector<parquet::Repetition::type>& path);

// Some rows of one page of a leaf.
struct ListedPage {
  PageView page;               // its rows are the entries of the innermost list
  std::vector<int64_t> picks;  // of these; none where all from `begin` to `end` are wanted
  int64_t begin = 0, end = 0;
  int64_t count() const { return begin < end ? end - begin : static_cast<int64_t>(picks.size()); }
};

// Adds the levels of some rows of the page (`wanted`: ascending, each once) to the leaf's. False where
// the page does not have `page_rows` rows. `listed`: the leaf's ListedLevel.
bool PickEntries(const std::vector<int64_t>& wanted, int64_t page_rows, int max_level, int listed,
                 ListedPage* part, NestedLeaf* leaf);

// The column's values in its Arrow type. Corrupt where the leaves do not fit together.
Result<std::shared_ptr<arrow::Array>> AssembleNested(const Field& field,
                                                     const std::map<int32_t, NestedLeaf>& leaves);

}  // namespace headrace::table
