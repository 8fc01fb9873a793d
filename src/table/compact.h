// Small fragments become large ones, overlays go into files, and values of deleted rows go for good.
//
// A compacted fragment has the ids of its neighbours' rows, those of deleted ones among them, which are nulls
// (docs/decisions/030). Where the table has a sort key its rows lie in that order (sort_rows.h), else in the
// order of their ids.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "table/change.h"
#include "table/commit_options.h"
#include "table/data_writer.h"
#include "table/snapshot.h"
#include "table/view.h"

namespace headrace::table {

struct CompactOptions {
  // Fragments are joined up to this size.
  int64_t fragment_rows = limits::kFragmentRows;
  int64_t fragment_bytes = limits::kFragmentBytes;
  // A fragment that has company is left alone where it holds more than this share of what both would hold: a
  // row is then written again only when its fragment has grown by a half.
  double largest_share = 2.0 / 3;
  // A fragment whose deleted rows still have their values is written anew above this share of its rows.
  double deleted_share = 0.1;
  // A pack of whose bytes less than this share is used is written anew; 1: every one that has others.
  double pack_share = 0.5;
  // Those packs, as Table::Compact finds them.
  std::set<Uuid> sparse_packs;
  // The table's sort key, as Table::Compact finds it.
  std::vector<int32_t> sort_by;
  // Whether fragments that are not sorted by it are written anew for that alone.
  bool sort_alone = true;
  // Bytes that are written before they are committed.
  int64_t commit_bytes = int64_t{4} << 30;
};

// Neighbours (indexes of a view's fragments) that become one fragment, or none where no row is left. One
// whose columns are filled in part becomes several.
struct CompactGroup {
  size_t begin = 0;
  size_t end = 0;
  bool empty = false;  // all rows are deleted
};

struct CompactResult : CommitResult {
  int64_t commits = 0;
  int64_t replaced = 0;  // fragments; `fragments` is how many came for them
};

// Whether a column is filled for some of the rows.
bool IsFilledInPart(const Schema& schema, const Fragment& fragment);

// What compaction would do to these fragments, in order of their rows.
std::vector<CompactGroup> PlanCompaction(const Schema& schema, const std::vector<Fragment>& fragments,
                                         const CompactOptions& options);

// Rows that are written for it.
int64_t RowsOf(const std::vector<Fragment>& fragments, const CompactGroup& group);

// Whether there are so many small fragments that whoever commits next should join them.
bool WantsUpkeep(const std::vector<Fragment>& fragments);

// Packs that the view uses, but less than this share of their bytes; 1: that hold anything else. Lists the
// table's packs; for 1 reads all cells of blob columns.
Result<std::set<Uuid>> SparsePacks(const View& view, double share);

// Writes the fragments of one change.
class Compactor {
 public:
  Compactor(const View& view, WriteOptions options) : view_(view), options_(std::move(options)) {}

  // The progress of rows, counted over all groups.
  using RowsFn = std::function<void(int64_t rows)>;
  Status Add(const std::vector<Fragment>& fragments, const CompactGroup& group, const RowsFn& done);
  // What is to be committed.
  CompactFragments Take() { return std::move(compact_); }
  // Deletes the files written, of which nothing may have become part of a table.
  void Discard();
  int64_t bytes() const { return bytes_; }
  int64_t base() const { return view_.snapshot().version; }

 private:
  // Some physical rows of a fragment that is written anew.
  struct Piece {
    const Fragment* fragment;
    int64_t begin;
    int64_t end;
  };
  // The rows of a fragment between which a column is filled, and not.
  Result<std::vector<Piece>> PiecesOf(const Fragment& fragment) const;
  static int64_t FirstId(const Piece& piece) { return piece.fragment->first_row_id + piece.begin; }
  // The columns that have values in the piece.
  Result<std::vector<Field>> FieldsOf(const Piece& piece) const;
  // Writes one fragment of these.
  Status Write(const std::vector<Piece>& pieces, const RowsFn& done);
  // Hands out their values a few at a time; of the row-id column those that the rows have now.
  using BatchFn = std::function<Status(const std::shared_ptr<arrow::RecordBatch>& batch)>;
  Status Copy(const std::vector<Piece>& pieces, const std::vector<Field>& fields, const BatchFn& write,
              const RowsFn& done);
  Status CopyPiece(const Piece& piece, const std::vector<Field>& fields, const BatchFn& write,
                   const RowsFn& done);
  // Whether their rows are to be sorted, and do not take too much memory for it.
  bool Sorts(const std::vector<Piece>& pieces) const;
  // Of the table's sort key, the columns that have values there; where none has, the rows lie in order.
  std::vector<Field> KeyOf(const std::vector<Field>& fields) const;
  DataWriter* NewWriter(const std::vector<Field>& fields);
  // Some rows in the order of `key`, which has all `fields` and the ids of the rows.
  Result<DataWriter*> WriteSorted(const arrow::RecordBatch& rows, const std::vector<Field>& key,
                                  std::vector<Field> fields);

  View view_;
  std::shared_ptr<const void> pin_ = view_.PinWrites();
  WriteOptions options_;
  std::vector<std::unique_ptr<DataWriter>> writers_;
  CompactFragments compact_;
  int64_t bytes_ = 0;
};

// Before a snapshot with this change is put: takes the entries of replaced fragments out of `next`, and adds
// those of the new ones, with the rows that were deleted up to `head`. Adds the keys that it wrote to
// `written`.
Status WriteCompaction(const CompactFragments& compact, const View& head, Snapshot* next,
                       std::vector<std::string>* written);

}  // namespace headrace::table
