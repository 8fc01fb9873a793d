// A table at one version, opened for reading. It never sees another version, and may be used from many
// threads.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "table/environment.h"
#include "table/expr.h"
#include "table/fragment_reader.h"
#include "table/manifest.h"
#include "table/row_set.h"
#include "table/snapshot.h"

namespace arrow {
class RecordBatchReader;
}

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

class View {
 public:
  View(std::shared_ptr<Environment> env, std::string prefix, std::shared_ptr<const Snapshot> snapshot);

  const Snapshot& snapshot() const { return *snapshot_; }
  const Schema& schema() const { return snapshot_->schema; }
  const std::string& prefix() const { return prefix_; }
  const std::shared_ptr<Environment>& environment() const { return env_; }

  // The fragments, ascending by row id; what several entries say of one is joined.
  Result<std::shared_ptr<const std::vector<Fragment>>> Fragments() const;
  // Statistics of a leaf field, one per fragment; nothing where unknown. Holes count as their default.
  Result<std::vector<std::optional<FieldStats>>> Stats(const Field& leaf) const;

  // Batches in row-id order. The reader holds what it needs; the view may go.
  Result<std::shared_ptr<arrow::RecordBatchReader>> Scan(const ScanOptions& options,
                                                         std::shared_ptr<ScanStats> stats = nullptr) const;
  // The same as tasks, for those who bring their own threads.
  Result<std::shared_ptr<const ScanSource>> StartScan(const ScanOptions& options) const;
  // Which fragments and how many rows a filter leaves, by statistics alone.
  Result<ScanStats> Plan(const ScanOptions& options) const;
  // Rows by id, in the order asked for, repeats allowed. NotFound names ids that no row has.
  Result<std::shared_ptr<arrow::RecordBatch>> Take(const std::vector<int64_t>& row_ids,
                                                   const std::vector<std::string>& columns) const;
  Result<int64_t> Count(const std::string& where, StopToken stop = {}) const;

  // The bytes behind cells of a blob column (a struct array from Scan or Take); nothing for null cells.
  // Checked against the cells' checksums.
  Result<std::vector<std::optional<store::Bytes>>> ReadBlobs(
      const std::shared_ptr<arrow::Array>& blobs) const;

  // What this view and its copies read columns with: by fragment and physical row.
  const FragmentReader& reader() const { return reader_; }

 private:
  struct Loaded {  // made on first need
    std::vector<std::shared_ptr<const Manifest>> manifests;
    std::vector<Fragment> fragments;
    // For every entry, manifests first and inline ones last: the index of its fragment.
    std::vector<std::vector<size_t>> manifest_targets;
    std::vector<size_t> inline_targets;
  };
  Result<std::shared_ptr<const Loaded>> Load() const;

  std::shared_ptr<Environment> env_;
  std::string prefix_;
  std::shared_ptr<const Snapshot> snapshot_;
  struct Lazy {
    std::mutex mutex;
    std::shared_ptr<const Loaded> loaded;
  };
  FragmentReader reader_;
  std::shared_ptr<Lazy> lazy_;
};

}  // namespace headrace::table
