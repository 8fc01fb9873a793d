// What a scan is asked for, what it did, and its tasks. View starts one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "table/expr.h"
#include "table/row_set.h"

namespace headrace::table {

struct ScanOptions {
  std::vector<std::string> columns;  // names or dotted paths; empty: all. "_row_id" may be among them
  std::string where;                 // empty: every row
  int64_t limit = -1;                // rows; -1: all
  int64_t batch_rows = 64 << 10;     // at most, per batch
  bool with_row_ids = false;         // adds _row_id as the last column
  // Only these rows, of those that pass the filter. Null: every row.
  std::shared_ptr<const RowSets> rows;
  // Conditions whose failing rows may be left out, but need not be: whoever set them filters again. Bound.
  std::vector<ExprPtr> hints;
  StopToken stop;
};

// What a scan did or would do.
struct ScanStats {
  int64_t fragments_total = 0;
  int64_t fragments = 0;  // left after pruning by manifest statistics
  int64_t files = 0;      // that hold a wanted column of those
  int64_t row_groups = 0;
  int64_t rows_total = 0;
  int64_t rows_read = 0;  // whose filter columns were read
  int64_t rows = 0;       // given out
  int64_t bytes = 0;      // of pages and tensors handed out
};

// A scan taken apart into tasks that any threads may run in any order; tasks ascend by row id.
class ScanSource {
 public:
  virtual ~ScanSource() = default;
  virtual const std::shared_ptr<arrow::Schema>& schema() const = 0;
  virtual size_t tasks() const = 0;
  virtual Result<std::shared_ptr<arrow::RecordBatch>> Run(size_t task) const = 0;
  virtual const ScanStats& planned() const = 0;
};

}  // namespace headrace::table
