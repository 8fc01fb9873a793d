// Rows that belong together lie together: where a table has a sort key, compaction writes the rows of a
// fragment in its order, so that who asks for one run of many reads its pages and not all. Their ids stay
// what they were, in a column of their own (row_ids.h). docs/design/sorting.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "table/fragment.h"
#include "table/schema.h"
#include "table/snapshot.h"

namespace headrace::table {

// A fragment whose values take more in memory stays in the order of its ids: sorting holds all of it, twice.
inline constexpr int64_t kMostSortedBytes = 256 << 20;
// Its files tell that about. Where text repeats, or numbers are stored narrower than they are read, values
// take more; past this the rows stay in their order after all. Below 2 GiB, which one column of text may
// have.
inline constexpr int64_t kMostSortedMemory = 2 * kMostSortedBytes;

// Of a fragment's values in memory, about.
int64_t DecodedBytes(const Fragment& fragment);

// Of a sort key, the fields that are among those which a fragment has values of; holes have no order.
std::vector<int32_t> KeyAmong(const std::vector<int32_t>& sort_by, const std::vector<int32_t>& filled);

// Invalid, with the reason, where values of the column have no order.
Status CheckSortable(const Field& field);

// The names of the columns by which a version's rows are to be sorted.
std::vector<std::string> SortKey(const Snapshot& snapshot);

// Which row comes where: a stable sort by the columns of the batch, the first first; nulls, and NaN before
// them, last.
Result<std::shared_ptr<arrow::Array>> SortedOrder(const arrow::RecordBatch& keys);
// 0, 1, 2, …
bool IsIdentity(const arrow::Array& order);
// The rows of the batch with these indexes.
Result<std::shared_ptr<arrow::RecordBatch>> TakeRows(const arrow::RecordBatch& batch,
                                                     const arrow::Array& indexes);

}  // namespace headrace::table
