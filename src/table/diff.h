// What differs between two versions of a table: rows by their ids, which are for life, and columns by their
// field ids.
//
//   HEADRACE_ASSIGN(const auto diff, Diff::Between(photos->At("v3").value(), photos->At("v7").value()));
//   HEADRACE_ASSIGN(const DiffCounts counts, diff.Count({}));
//   HEADRACE_ASSIGN(const auto rows, diff.Rows({}));   // row_id, change, columns
//
// Fragments are compared first: where both versions have the same one with the same files, nothing is read.
// Values are compared as filters do: NaN equals NaN, and -0.0 equals 0.0; blobs by their facts and checksums.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "table/view.h"

namespace headrace::table {

struct DiffColumn {
  Field field;                        // as it is after, or was before where it was dropped; the wider of both
  std::optional<std::string> before;  // its names; none: it was not there
  std::optional<std::string> after;
  bool compared = true;  // of a column of both
  // Its types before and after where they differ: one can be widened to the other (retype.h).
  std::optional<std::pair<std::string, std::string>> retyped{};
  bool added() const { return !before; }
  bool dropped() const { return !after; }
  bool renamed() const { return before && after && *before != *after; }
};

struct DiffCounts {
  int64_t added = 0;
  int64_t deleted = 0;
  int64_t changed = 0;              // in both, with another value in some column that both have
  int64_t same = 0;                 // in both, otherwise
  std::vector<int64_t> changed_in;  // rows, by index of Diff::columns()
};

class Diff {
 public:
  // Invalid where they are versions of different tables. Either may be the older one. `columns`: those of
  // `after` whose values are compared (empty: all that both have).
  static Result<Diff> Between(const View& before, const View& after,
                              const std::vector<std::string>& columns = {});

  const View& before() const { return before_; }
  const View& after() const { return after_; }
  // Those of `after` in its order, then those that were dropped.
  const std::vector<DiffColumn>& columns() const { return columns_; }

  Result<DiffCounts> Count(const StopToken& stop) const;
  // The rows that differ, by id: row_id, change ("added", "deleted" or "changed") and columns, the names
  // after of those whose values changed (null of rows that were added or deleted).
  Result<std::shared_ptr<arrow::RecordBatchReader>> Rows(const StopToken& stop) const;

 private:
  Diff(const View& before, const View& after) : before_(before), after_(after) {}
  View before_;
  View after_;
  std::vector<DiffColumn> columns_;
};

}  // namespace headrace::table
