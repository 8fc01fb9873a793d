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
#include "table/fragment_reader.h"
#include "table/manifest.h"
#include "table/scan.h"
#include "table/snapshot.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::table {

class View {
 public:
  View(std::shared_ptr<Environment> env, std::string prefix, std::shared_ptr<const Snapshot> snapshot);

  const Snapshot& snapshot() const { return *snapshot_; }
  const Schema& schema() const { return snapshot_->schema; }
  const std::string& prefix() const { return prefix_; }
  const std::shared_ptr<Environment>& environment() const { return env_; }

  // The fragments, ascending by row id; what several entries say of one is joined.
  Result<std::shared_ptr<const std::vector<Fragment>>> Fragments() const;
  // The rows of one of them that were deleted; null where none were.
  Result<std::shared_ptr<const RowSet>> Deleted(const Fragment& fragment) const;
  // Statistics of a leaf field, one per fragment; nothing where unknown. Holes count as their default.
  Result<std::vector<std::optional<FieldStats>>> Stats(const Field& leaf) const;

  // Batches in the order in which rows lie: of fragments by their ids, and in a sorted one by its key. The
  // reader holds what it needs; the view may go.
  Result<std::shared_ptr<arrow::RecordBatchReader>> Scan(const ScanOptions& options,
                                                         std::shared_ptr<ScanStats> stats = nullptr) const;
  // The same as tasks, for those who bring their own threads.
  Result<std::shared_ptr<const ScanSource>> StartScan(const ScanOptions& options) const;
  // Which fragments and how many rows a filter leaves, by statistics alone.
  Result<ScanStats> Plan(const ScanOptions& options) const;
  // Rows by id, in the order asked for, repeats allowed. NotFound names ids that no row has.
  Result<std::shared_ptr<arrow::RecordBatch>> Take(const std::vector<int64_t>& row_ids,
                                                   const std::vector<std::string>& columns) const;
  // The ids of the rows at these places: 0 is the first row there is, rows() - 1 the last. Invalid for
  // others.
  Result<std::vector<int64_t>> IdsAt(const std::vector<int64_t>& places) const;
  Result<int64_t> Count(const std::string& where, StopToken stop = {}) const;
  // The physical rows that pass a filter, by fragment; null where none does. An empty `where`: all that are
  // there.
  Result<RowSets> Select(const std::string& where, StopToken stop = {}) const;
  // The same of rows by id. NotFound names the first that is not there.
  Result<RowSets> SelectIds(std::vector<int64_t> row_ids) const;

  // The bytes behind cells of a blob column (a struct array from Scan or Take); nothing for null cells.
  // Checked against the cells' checksums.
  Result<std::vector<std::optional<store::Bytes>>> ReadBlobs(
      const std::shared_ptr<arrow::Array>& blobs) const;

  // Holds files that are written from now on, to be committed, as this view holds those of its version
  // (pins.h).
  std::shared_ptr<const void> PinWrites() const;

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
    std::shared_ptr<const void> pin;
  };
  FragmentReader reader_;
  std::shared_ptr<Lazy> lazy_;
};

}  // namespace headrace::table
