// committer: from spools to the tables `traces` and `scores`, exactly once.
//
// A commit of a writer's records carries the writer's id and, as its sequence, the position up to which it
// took them; the table remembers the last. So whoever comes after a crash continues there, and a commit that
// is tried again changes nothing. A row of `traces` is committed when its end record is there; a start record
// whose writer died without one becomes a row too, with finish = "interrupted".
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "table/table.h"
#include "trace/columns.h"
#include "trace/spool.h"

namespace headrace::trace {

// Where the spools of a catalog lie: in it, where it is a folder; else on this machine, below
// $XDG_STATE_HOME/headrace.
std::string SpoolRoot(const table::Catalog& catalog);

// Records become rows: keeps what has begun and not ended.
class Replay {
 public:
  // The rows that `record` completes are added to them.
  void Take(const Record& record, std::vector<nlohmann::json>* traces, std::vector<nlohmann::json>* scores);
  // Rows of what never ended.
  std::vector<nlohmann::json> Interrupted() const;
  // Before the start record of the oldest that has not ended; `otherwise` where there is none.
  Position Oldest(Position otherwise) const;
  size_t open() const { return open_.size(); }
  int64_t unreadable() const { return unreadable_; }

 private:
  struct Begun {
    nlohmann::json start;
    Position end;  // of its record
  };
  std::map<std::string, Begun> open_;
  int64_t unreadable_ = 0;  // records that are whole, but are not what we write
};

struct CommitCounts {
  int64_t traces = 0, scores = 0;
  std::vector<std::string> complaints;
};

// Commits one writer's folder, again and again while it lives.
class Committer {
 public:
  Committer(std::shared_ptr<table::Catalog> catalog, std::string folder);
  // What has ended since the last time. `over`: the writer is dead, so what has not ended never will. After
  // an error nothing is lost: the next call tries again, with the files that were written already.
  Result<CommitCounts> Commit(bool over = false);
  // For a dead writer's folder, once all of it is committed: it goes, or is kept aside; where, if anything in
  // it could not be read.
  std::string Remove(Takeover* takeover);

 private:
  // Rows whose files are whole, and whose commit failed.
  struct Pending {
    std::unique_ptr<table::Appender> appender;
    int64_t sequence = 0;
    int64_t* done = nullptr;   // traces_done_ or scores_done_
    int64_t* count = nullptr;  // where the rows are counted
  };

  Status Recover();
  Status CommitAll(bool over);
  Status CommitRows(const char* name, std::span<const Column> columns,
                    const std::vector<nlohmann::json>& rows, int64_t sequence, int64_t* done, int64_t* count);
  // Tries the pending rows' commit again, where there are any.
  Status CommitPending();

  std::shared_ptr<table::Catalog> catalog_;
  std::string folder_, writer_;
  bool recovered_ = false;
  std::optional<Pending> pending_;
  CommitCounts landed_;                          // what was committed and not yet told
  Position done_;                                // all before it is committed
  int64_t traces_done_ = -1, scores_done_ = -1;  // sequences, as the tables remember them
  Replay replay_;
  std::set<int64_t> damaged_;  // segments
};

// Commits and removes the folders of dead writers below the catalog's spool root: each, whatever is wrong
// with the others. The complaints say what could not be read, where it is kept, and which folders wait for
// another try.
Result<CommitCounts> CommitDead(const std::shared_ptr<table::Catalog>& catalog);

// What `traces` or `scores` holds beyond its newest version, `view`: rows that are still in spools, and, for
// traces, requests that run now (finish is null). Conflict: the version is not the newest any more.
Result<std::shared_ptr<arrow::RecordBatch>> Tail(const table::Catalog& catalog, const std::string& table,
                                                 const table::View& view);

// The same as a function of the catalog, as SQL wants it (query::EngineOptions::tail), for these tables.
std::function<Result<std::shared_ptr<arrow::RecordBatch>>(const std::string&, const table::View&)> TailOf(
    std::shared_ptr<table::Catalog> catalog);
std::vector<std::string> TailedTables();

// The table, made where it is missing.
Result<std::shared_ptr<table::Table>> OpenOrCreate(table::Catalog* catalog, const char* name,
                                                   std::span<const Column> columns);

// Whole rows of `traces` as a JSON list, committed at once (for programs that run no spool).
Result<table::CommitResult> CommitTraces(table::Catalog* catalog, const std::string& rows);

// One score, committed at once (for programs that run no spool).
Result<table::CommitResult> CommitScore(table::Catalog* catalog, const nlohmann::json& score);

}  // namespace headrace::trace
