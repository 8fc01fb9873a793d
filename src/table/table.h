// table: versioned tables in a catalog. Begin here.
//
//   HEADRACE_ASSIGN(auto catalog, Catalog::Open("/data/cat"));
//   HEADRACE_ASSIGN(auto photos, catalog->OpenTable("photos"));
//   HEADRACE_ASSIGN(auto view, photos->At("v3"));                       // or At(""), the newest
//   ScanOptions options{.columns = {"path", "image.width"}, .where = "image.width >= 512"};
//   HEADRACE_ASSIGN(auto batches, view.Scan(options));                  // an Arrow record batch reader
//   HEADRACE_ASSIGN(auto done, photos->Append(*reader, {}));            // one commit
//
// Reading is view.h, filters are expr.h, what a commit may collide with is conflict.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "table/commit.h"
#include "table/data_writer.h"
#include "table/refs.h"
#include "table/view.h"

namespace headrace::table {

struct CommitOptions {
  std::string who;  // default: user@host
  std::string why;
  std::string how;                  // the program, for the log
  std::vector<std::string> inputs;  // lineage
  // Exactly-once appends: commit number `sequence` of this writer is taken once, however often it is tried.
  std::string writer;
  int64_t sequence = -1;
  // The writer's sequence that this one must follow, -1 for none: Conflict otherwise. For writers whose rows
  // depend on what they committed before, and who cannot be sure of it.
  std::optional<int64_t> after;
  WriteOptions write;
  StopToken stop;
  ProgressFn progress;
};

struct CommitResult {
  int64_t version = 0;
  int64_t rows = 0;
  int64_t bytes = 0;
  int64_t fragments = 0;
  bool repeated = false;
};

// One line of a table's history.
struct HistoryEntry {
  int64_t version = 0;
  int64_t time_us = 0;
  int64_t rows = 0;  // in the table after it
  Operation operation;
  std::vector<std::string> tags;  // that point at it now
};

// Rows arriving over time, committed together at the end. Dropped without Commit: nothing happened, and their
// files are deleted.
class Appender {
 public:
  virtual ~Appender() = default;
  // After an error of Write, all is lost: later calls give the same error.
  virtual Status Write(const arrow::RecordBatch& batch) = 0;
  // What the rows came from, once: Commit is a Conflict if somebody takes it in meanwhile.
  virtual void Take(TakenItem item) = 0;
  // After an error it may be called again, where `can_retry`: the same files, another attempt at the
  // snapshot. The rows are committed once, also where an earlier attempt ended in Unknown: that is settled
  // first.
  virtual Result<CommitResult> Commit() = 0;
  virtual bool can_retry() const = 0;
  virtual int64_t rows() const = 0;
  virtual int64_t bytes() const = 0;
};

class Table {
 public:
  Table(std::shared_ptr<Environment> env, std::string name, Uuid id);

  const std::string& name() const { return name_; }
  const Uuid& id() const { return id_; }
  const std::string& prefix() const { return prefix_; }

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

  // New columns from rows in row-id order, as many as the newest version has. Existing columns of the same
  // name and type have their holes filled instead.
  Result<CommitResult> AddColumns(arrow::RecordBatchReader* columns, const CommitOptions& options);
  // New columns computed from others, batch by batch. `fn` gives as many rows as it got, and the same columns
  // each time.
  using BatchFn =
      std::function<Result<std::shared_ptr<arrow::RecordBatch>>(std::shared_ptr<arrow::RecordBatch>)>;
  Result<CommitResult> AddColumns(const std::vector<std::string>& inputs, const BatchFn& fn,
                                  const CommitOptions& options);
  // Columns without data: all holes, read as `default_value` or null. Costs one small commit.
  Result<CommitResult> AddEmptyColumns(std::vector<Field> fields, const CommitOptions& options);

  Result<CommitResult> RenameColumn(const std::string& from, const std::string& to,
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
  // Fills holes of the newest version's fragments from `source`, and commits that. `known_schema`: of the
  // columns, where it is known before the first batch, and rows come for every fragment in order; null: the
  // first batch tells.
  Result<CommitResult> FillHoles(const FragmentSource& source, const std::vector<std::string>& inputs,
                                 const std::shared_ptr<arrow::Schema>& known_schema,
                                 const CommitOptions& options);
  Result<int32_t> ReserveFields(int32_t count, const CommitOptions& options);
  Result<CommitResult> CommitSmall(Change change, const CommitOptions& options);
  Operation MakeOperation(const CommitOptions& options) const;

  std::shared_ptr<Environment> env_;
  std::string name_;
  Uuid id_;
  std::string prefix_;
  std::shared_ptr<SnapshotLog> log_;
};

struct CatalogOptions {
  bool sync = true;  // of Init: kept in the catalog, and used by everyone who opens it
  int threads = 0;   // 0: one per hardware thread
};

class Catalog {
 public:
  // A folder or s3://bucket/prefix. Init makes a catalog (AlreadyExists if there is one); Open needs one.
  static Result<std::shared_ptr<Catalog>> Init(const std::string& location,
                                               const CatalogOptions& options = {});
  static Result<std::shared_ptr<Catalog>> Open(const std::string& location,
                                               const CatalogOptions& options = {});
  // On a store that is there already (tests, scratch).
  static Result<std::shared_ptr<Catalog>> InitOn(std::shared_ptr<store::ObjectStore> store,
                                                 const CatalogOptions& options = {});
  static Result<std::shared_ptr<Catalog>> OpenOn(std::shared_ptr<store::ObjectStore> store,
                                                 const CatalogOptions& options = {});

  Result<std::shared_ptr<Table>> CreateTable(const std::string& name, Schema schema,
                                             const CommitOptions& options = {});
  Result<std::shared_ptr<Table>> OpenTable(const std::string& name) const;
  // The table as it is, or made with this schema where there is none; whoever is faster makes it.
  Result<std::shared_ptr<Table>> OpenOrCreateTable(const std::string& name, Schema schema,
                                                   const CommitOptions& options = {});
  Result<std::vector<std::string>> TableNames() const;
  // The name goes; the data stays until garbage collection.
  Status DropTable(const std::string& name, const CommitOptions& options = {});

  // A ref to a table's version: tags that version (so that it is kept) and points the name at it.
  Result<RefValue> PointRef(const std::string& ref, const std::string& table, const std::string& version,
                            int64_t expected_revision, const CommitOptions& options = {});
  // A table's name, or a ref to a snapshot: the view it stands for. `name` may end in @version.
  Result<View> Resolve(const std::string& name) const;

  Refs refs() const { return Refs(env_->store); }
  std::string Describe() const { return env_->store->Describe(); }
  const std::shared_ptr<Environment>& environment() const { return env_; }

 private:
  explicit Catalog(std::shared_ptr<Environment> env) : env_(std::move(env)) {}
  Status ReleaseTag(const RefValue& held, const CommitOptions& options);
  std::shared_ptr<Environment> env_;
};

// "ada@laptop", or HEADRACE_USER.
std::string DefaultWho();

}  // namespace headrace::table
