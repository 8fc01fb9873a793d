// committer: commits the records of spools to their tables, exactly once.
//
// One process at a time commits all spools of a catalog that lie on this machine, whoever wrote them: the one
// that holds <root>/committer.lock. It notes how far it takes each spool (note.h), commits the rows of every
// table with the note's number, and drops the segments that nothing needs any more. A row of begin and end is
// committed when its end record is there; one whose writer died without an end becomes a row too, with finish
// = "interrupted".
//
// Spools of version 1 (docs/format/spool.md) were committed by their own writers: one is taken over when its
// writer is dead, from where the tables say that it came.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "table/catalog.h"
#include "trace/note.h"
#include "trace/repeats.h"
#include "trace/replay.h"
#include "trace/spool.h"

namespace headrace::trace {

// Where the spools of a catalog lie: in it, where it is a folder; else on this machine, below
// $XDG_STATE_HOME/headrace.
std::string SpoolRoot(const table::Catalog& catalog);

struct CommitCounts {
  std::map<std::string, int64_t> rows;  // by table
  std::vector<std::string> complaints;
  int64_t total() const {
    int64_t sum = 0;
    for (const auto& [table, count] : rows) sum += count;
    return sum;
  }
};

struct CommitterOptions {
  std::string root;            // where the spools lie; "": SpoolRoot of the catalog
  std::function<void()> step;  // called before each change on the disk or in the store; for tests
};

// Not thread-safe.
class Committer {
 public:
  // Null while another process (or another Committer of this one) commits these spools.
  static Result<std::unique_ptr<Committer>> Try(std::shared_ptr<table::Catalog> catalog,
                                                CommitterOptions options = {});
  ~Committer();  // lets go of the lock
  Committer(const Committer&) = delete;
  Committer& operator=(const Committer&) = delete;

  // All that has ended since the last time, of all spools; those of dead writers go. An error in one spool
  // does not stop the others: it is one of the complaints. After an error nothing is lost: the next call
  // tries again, with the files that were written already.
  Result<CommitCounts> Commit();
  // Bytes in the spools that were not read yet.
  int64_t waiting() const;
  // Its id, once it has committed: the writer of its commits.
  const std::string& id() const { return note_.committer; }

 private:
  // One spool, as far as it was taken.
  struct Source {
    Position done;
    Replay replay;
    std::set<int64_t> damaged;   // segments
    int64_t over = 0;            // as Note::Span has it
    std::vector<int64_t> older;  // of each table: the sequence of version 1, which its writer committed
  };
  using Sources = std::map<std::string, Source>;

  explicit Committer(std::shared_ptr<table::Catalog> catalog) : catalog_(std::move(catalog)) {}
  void Step() const {
    if (options_.step) options_.step();
  }
  std::string FolderOf(const std::string& writer) const { return options_.root + "/" + writer; }
  static void AddInterrupted(const Source& source, Rows* rows);
  Result<Source> Open(const std::string& writer) const;
  // Whether nothing is left before `until`.
  Result<bool> Read(const std::string& writer, Position until, Source* source, Rows* rows);
  Status Recover();
  Status CommitAll();
  Result<bool> TakeMore();
  Status TakeSpool(const std::string& folder, Note* next);
  Status DropRepeats();
  Status FinishNote();
  Status CommitTable(size_t table);
  Status Clean();

  std::shared_ptr<table::Catalog> catalog_;
  CommitterOptions options_;
  std::optional<FileLock> lock_;
  bool recovered_ = false;
  Note note_;
  Sources sources_;  // as the last note that is finished leaves them
  // Of the note that is not: the spools as it leaves them, its rows, and the files of those that were
  // written.
  bool unfinished_ = false;
  bool full_ = false;  // the note has as many rows as one takes: there may be more
  Sources next_;
  Rows rows_;
  Repeats repeats_;
  std::vector<std::unique_ptr<table::Appender>> appenders_;
  std::vector<std::optional<int64_t>> had_;  // of each table: the last note that it has; none: not known
  std::map<std::string, std::unique_ptr<Takeover>> held_;  // of dead writers, during a Commit
  CommitCounts landed_;                                    // what was committed and not yet told
};

// Commits once if the committer's lock is free; otherwise does nothing.
Result<CommitCounts> CommitSpools(const std::shared_ptr<table::Catalog>& catalog);

}  // namespace headrace::trace
