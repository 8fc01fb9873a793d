// The rows of a table that a stream iterates over: all, or those that pass a filter; maps ordinals to rows.
//
// A filter is evaluated once for a (snapshot, canonical expression) and kept in the catalog as compressed
// bitmaps, a part for every 64 fragments (docs/format/selection.md); processes that need it at once share the
// parts among them. Bitmaps are loaded fragment by fragment as rows of it are asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "table/row_map.h"
#include "table/row_set.h"
#include "table/view.h"

namespace headrace::stream {

using table::RowPlace;
using table::RowSet;

// Rows [first_row_id, first_row_id + rows) of a fragment, of which `selected` are wanted.
struct Extent {
  int64_t first_row_id = 0;
  int64_t rows = 0;
  int64_t selected = 0;
};

class Selection {
 public:
  // Every row of these extents.
  static std::shared_ptr<Selection> All(std::vector<Extent> extents);
  // Loads the filter's selection, after evaluating what of it nobody has evaluated yet. `share` of `shares`
  // says where to begin, so that many processes at once do different parts.
  static Result<std::shared_ptr<Selection>> Load(const table::View& view, const std::string& where, int share,
                                                 int shares, const StopToken& stop,
                                                 const ProgressFn& progress);
  // From sets that lie elsewhere (tests, simulated tables): `load` gives a fragment's set in portable form.
  using LoadFn = std::function<Result<store::Bytes>(size_t fragment)>;
  static std::shared_ptr<Selection> From(std::vector<Extent> extents, LoadFn load);

  int64_t rows() const { return starts_.back(); }
  // Equal for equal selections of one table: of the filter's canonical text, 0 if there is none.
  uint64_t hash() const { return hash_; }
  const std::string& canonical() const { return canonical_; }
  Result<RowPlace> At(int64_t ordinal);
  // For a scan of these rows: every fragment's set, loaded, and not kept here. Null where all are selected.
  Result<std::shared_ptr<const table::RowSets>> Sets();
  Result<int64_t> RowIdAt(const RowPlace& place) const;
  const std::vector<Extent>& extents() const { return extents_; }
  // Bytes of the bitmaps that are loaded, and of the directory.
  int64_t memory_bytes();

 private:
  explicit Selection(std::vector<Extent> extents);
  static Result<std::shared_ptr<Selection>> LoadSets(
      const table::View& view, const std::shared_ptr<const std::vector<table::Fragment>>& fragments,
      const std::string& where, int share, int shares, const StopToken& stop, const ProgressFn& progress);
  std::vector<Extent> extents_;
  std::vector<int64_t> starts_;  // ordinals before each extent, and of all
  LoadFn load_;
  // The ids of a fragment's rows; null: they lie in order, in every one.
  std::function<Result<table::RowIds>(size_t fragment)> ids_;
  uint64_t hash_ = 0;
  std::string canonical_;
  Result<std::shared_ptr<const RowSet>> LoadSet(size_t fragment) const;
  std::mutex mutex_;
  std::vector<std::shared_ptr<const RowSet>> sets_;
};

}  // namespace headrace::stream
