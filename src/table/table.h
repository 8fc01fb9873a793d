// table: versioned tables in a catalog. Begin here.
//
//   HEADRACE_ASSIGN(auto catalog, Catalog::Open("/data/cat"));
//   HEADRACE_ASSIGN(auto photos, catalog->OpenTable("photos"));
//   HEADRACE_ASSIGN(auto view, photos->At("v3"));                       // or At(""), the newest
//   ScanOptions options{.columns = {"path", "image.width"}, .where = "image.width >= 512"};
//   HEADRACE_ASSIGN(auto batches, view.Scan(options));                  // an Arrow record batch reader
//   HEADRACE_ASSIGN(auto done, photos->Append(*reader, {}));            // one commit
//
// Catalogs are catalog.h, reading is view.h and scan.h, filters are expr.h, what a commit may collide with is
// conflict.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "table/appender.h"
#include "table/change_rows.h"
#include "table/collect.h"
#include "table/commit.h"
#include "table/commit_options.h"
#include "table/compact.h"
#include "table/repair.h"
#include "table/verify.h"
#include "table/view.h"

namespace headrace::table {

class RowUpdater;

struct MergeOptions {
  std::vector<std::string> on;  // the key's columns
  enum class Matched { kUpdate, kKeep, kDelete };
  Matched matched = Matched::kUpdate;  // rows of the table whose key the source has
  bool add = true;                     // rows of the source whose key the table has not
};

struct MergeResult : CommitResult {
  int64_t updated = 0;
  int64_t deleted = 0;
  int64_t added = 0;
};

// One line of a table's history.
struct HistoryEntry {
  int64_t version = 0;
  int64_t time_us = 0;
  int64_t rows = 0;  // in the table after it
  Operation operation;
  std::vector<std::string> tags;  // that point at it now
  bool expired = false;           // only this line is left, or will be soon
};

class Table {
 public:
  Table(std::shared_ptr<Environment> env, std::string name, Uuid id);

  const std::string& name() const { return name_; }
  const Uuid& id() const { return id_; }
  const std::string& prefix() const { return prefix_; }
  const std::shared_ptr<Environment>& environment() const { return env_; }

  // "" or "latest": the newest; "7" or "v7": that version; a tag; a time ("2026-11-22T08:00"): the newest
  // then.
  Result<View> At(const std::string& version = "") const;
  // The files and objects that the newest version has taken in.
  Result<Taken> TakenIn() const;
  Result<std::vector<HistoryEntry>> History(int64_t limit = -1, bool with_reservations = false) const;

  // Any subset of the columns, by name; those left out are holes in the new rows.
  Result<CommitResult> Append(arrow::RecordBatchReader* rows, const CommitOptions& options);
  // `columns`: the names that every batch will have.
  Result<std::unique_ptr<Appender>> StartAppend(const std::vector<std::string>& columns,
                                                const CommitOptions& options);

  // New columns from rows in the order of a scan, as many as `rows` has, a version of this table: rows that
  // came later stay without values, and a Conflict if `inputs`, from which the columns were made, change
  // before the commit. Existing columns of the same name and type have their holes filled instead.
  Result<CommitResult> AddColumns(const View& rows, arrow::RecordBatchReader* columns,
                                  const std::vector<std::string>& inputs, const CommitOptions& options);
  // The same for the rows of the newest version.
  Result<CommitResult> AddColumns(arrow::RecordBatchReader* columns, const CommitOptions& options);
  // New columns computed from others, batch by batch. `fn` gives as many rows as it got, and the same columns
  // each time.
  using BatchFn =
      std::function<Result<std::shared_ptr<arrow::RecordBatch>>(std::shared_ptr<arrow::RecordBatch>)>;
  Result<CommitResult> AddColumns(const std::vector<std::string>& inputs, const BatchFn& fn,
                                  const CommitOptions& options);
  // Columns without data: all holes, read as `default_value` or null. Costs one small commit.
  Result<CommitResult> AddEmptyColumns(std::vector<Field> fields, const CommitOptions& options);

  // Deletes rows. Where others changed what the filter reads meanwhile, it is asked again. `rows` of the
  // result: those that were there. No row: no commit, and the version is the newest.
  // `erase`: the next Collect takes their bytes out of all files, and lets every earlier version go but those
  // with tags.
  Result<CommitResult> Delete(const RowFilter& rows, const CommitOptions& options, bool erase = false);
  // New values of `columns` for some rows. `fn` gets the `inputs` of rows that are meant (none named: their
  // ids) and gives the columns that change, as many rows as it got, in order.
  Result<CommitResult> Update(const RowFilter& rows, const std::vector<std::string>& inputs,
                              const std::vector<std::string>& columns, const BatchFn& fn,
                              const CommitOptions& options);
  // Brings the source's rows in by a key, as one commit: rows of the table with a key of the source get its
  // values of the source's other columns, or go; the others are added. AlreadyExists where the source has a
  // key twice, Invalid where a row of it has none. The source is held in memory.
  Result<MergeResult> Merge(arrow::RecordBatchReader* source, const MergeOptions& rules,
                            const CommitOptions& options);
  // The rows, columns and values of an earlier version, as a new version.
  Result<CommitResult> Restore(const std::string& version, const CommitOptions& options);

  // Joins small fragments and writes overlays and deletes into files; rows, ids and order stay. Several
  // commits where much is written; what others change meanwhile is left for another time.
  Result<CompactResult> Compact(const CompactOptions& asked, const CommitOptions& options);
  // Does so where small commits have left many small fragments, and in pieces that take little time. For
  // those who commit often.
  Result<CompactResult> Upkeep(const CommitOptions& options);

  // How long a version is kept once a newer one is there (0: for ever). Tags, and refs, keep one in any case.
  Result<CommitResult> SetRetention(int64_t keep_us, const CommitOptions& options);
  // By what compaction sorts rows from now on; none: by nothing. What lies sorted already stays so until it
  // is written anew.
  Result<CommitResult> SortBy(const std::vector<std::string>& columns, const CommitOptions& options);
  // Keeps a writer's mark whatever its age, or lets it go (writers.h).
  Result<CommitResult> ChangeWriter(const WriterChange& writer, const CommitOptions& options);
  // Expires what its retention does not keep, and deletes what no version needs any more (collect.h).
  Result<CollectReport> Collect(const CollectOptions& collect, const CommitOptions& options);
  // Reads and checks everything that is stored; damage is in the report, not an error. Of the options the
  // progress and the stop token count.
  Result<VerifyReport> Verify(const VerifyOptions& verify, const CommitOptions& options) const;
  Result<RepairReport> Repair(const RepairOptions& repair, const CommitOptions& options);

  Result<CommitResult> RenameColumn(const std::string& from, const std::string& to,
                                    const CommitOptions& options);
  // The column in a wider type, such as "int64" (retype.h). One small commit; no value is written.
  Result<CommitResult> WidenColumn(const std::string& name, const std::string& type,
                                   const CommitOptions& options);
  Result<CommitResult> DropColumn(const std::string& name, const CommitOptions& options);
  // `version` as in At; empty `version` with `remove`: takes the tag away.
  Result<CommitResult> Tag(const std::string& tag, const std::string& version, bool move,
                           const CommitOptions& options);
  Result<CommitResult> RemoveTag(const std::string& tag, const CommitOptions& options);

 private:
  friend class TableAppender;
  friend class ColumnFiller;
  using FragmentSource = std::function<Status(const View& view, const Fragment& fragment,
                                              const std::function<Status(const arrow::RecordBatch&)>& write)>;
  // Fills holes of the version's fragments from `source`, and commits that. `known_schema`: of the columns,
  // where it is known before the first batch, and rows come for every fragment in order; null: the first
  // batch tells.
  Result<CommitResult> FillHoles(View view, const FragmentSource& source,
                                 const std::vector<std::string>& inputs,
                                 const std::shared_ptr<arrow::Schema>& known_schema,
                                 const CommitOptions& options);
  // Computes a change from the newest version, and again where others changed what it was computed from.
  Result<CommitResult> CommitAgain(const CommitOptions& options,
                                   const std::function<Result<CommitResult>(const View&)>& attempt);
  struct UpdatePlan;
  Result<UpdatePlan> PlanUpdate(const View& view, const RowFilter& rows,
                                const std::vector<std::string>& inputs,
                                const std::vector<std::string>& columns, const StopToken& stop) const;
  Status WriteUpdate(const UpdatePlan& plan, const BatchFn& fn, const CommitOptions& options,
                     RowUpdater* updater) const;
  Result<CommitResult> CommitUpdate(Change change, RowUpdater* updater, const CommitOptions& options);
  // Writes groups until their bytes pass the budget, and commits them.
  Result<CompactResult> CommitCompaction(Compactor* compactor, const std::vector<Fragment>& fragments,
                                         const std::vector<CompactGroup>& groups, int64_t budget,
                                         const CommitOptions& options);
  Result<int32_t> ReserveFields(int32_t count, const CommitOptions& options);
  Result<CommitResult> CommitSmall(Change change, const CommitOptions& options);
  Status CheckRetained(const Snapshot& head, int64_t version) const;
  Operation MakeOperation(const CommitOptions& options) const;

  std::shared_ptr<Environment> env_;
  std::string name_;
  Uuid id_;
  std::string prefix_;
  std::shared_ptr<SnapshotLog> log_;
};

}  // namespace headrace::table
