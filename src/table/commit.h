// Commits: many writers, no server. Data is written first; a commit is one put-if-absent of the next
// snapshot.
//
// Whoever loses the race re-reads the newest snapshot, checks whether the change still makes sense on it, and
// tries again (snapshot isolation). What happens to a change of mine when another's commit came first:
//
//   mine \ theirs   | append | add columns, fill | schema change    | tag, reserve
//   ----------------+--------+-------------------+------------------+-------------
//   append          | rebase | rebase            | same fields      | rebase
//   add columns     | rebase | same pairs        | same fields      | rebase
//   schema change   | rebase | same fields       | same fields      | rebase
//   tag, reserve    | rebase | rebase            | rebase           | same tag
//
//   rebase       always goes through on the newer snapshot
//   same fields  Conflict if a field that I read, wrote or change was dropped, renamed or retyped; or its
//   name is taken same pairs   Conflict if a (fragment, field) that I fill was filled meanwhile; or a column
//   of that name came same tag     AlreadyExists if the tag now points elsewhere
//
// The rows of the brief's table for delete, compaction and expiry follow with those operations.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "table/environment.h"
#include "table/snapshot.h"
#include "table/taken.h"
#include "table/view.h"

namespace headrace::table {

enum class Rule { kRebase, kSameFields, kSamePairs, kSameTag };
// The table above.
Rule RuleFor(OperationKind mine, OperationKind theirs);

// A change to be committed. Only the part of its kind is looked at.
struct Change {
  Operation operation;

  // Exactly-once: a (writer, sequence) that was committed before is not committed again.
  std::string writer;
  int64_t sequence = -1;
  std::optional<int64_t> after;  // see CommitOptions

  // kAppend: fragments without ids. kAddColumns: entries (id, first_row_id, rows, files, stats) for existing
  // fragments.
  std::vector<Fragment> fragments;
  // Fields as I knew them when I read or wrote them: compared by id, name and type with the snapshot I land
  // on.
  std::vector<Field> fields_used;
  // kAppend: the items whose rows these are; Conflict if one was taken in meanwhile.
  std::vector<TakenItem> taken;
  // kAddColumns: new fields, with reserved ids. Empty when only holes of existing columns are filled.
  std::vector<Field> new_fields;

  // kSchemaChange
  struct Rename {
    int32_t id;
    std::string from;
    std::string to;
  };
  std::vector<Rename> renames;
  std::vector<int32_t> drops;

  // kTag
  std::string tag;
  int64_t tag_version = 0;  // 0: remove the tag
  bool move_tag = false;

  // kReserve
  int32_t reserve_fields = 0;
};

struct Committed {
  int64_t version = 0;
  bool repeated = false;  // this (writer, sequence) was there already
  std::shared_ptr<const Snapshot> snapshot;
};

// A change on its way in, across calls of Commit: trying again after a failure neither commits it twice nor
// leaves behind what earlier tries wrote.
struct Attempt {
  std::string transaction;           // the same for all of them; given by the first
  int64_t unsettled = 0;             // the version that it may have become; 0: it has become none
  std::vector<std::string> written;  // keys of manifests and lists that the version above may name
};

// The snapshots of one table: finding the newest, reading one, adding the next.
class SnapshotLog {
 public:
  SnapshotLog(std::shared_ptr<Environment> env, std::string prefix)
      : env_(std::move(env)), prefix_(std::move(prefix)) {}

  Result<std::shared_ptr<const Snapshot>> Read(int64_t version);
  // NotFound if the table has none.
  Result<std::shared_ptr<const Snapshot>> Latest();
  // Conflict if the change makes no sense any more; Unknown if the store never said whether it was taken:
  // another call with the same `attempt` settles that first. After any error that leaves `attempt->unsettled`
  // 0, nothing was committed, and nothing that was written for it is left.
  Result<Committed> Commit(const Change& change, const StopToken& stop, Attempt* attempt);
  Result<Committed> Commit(const Change& change, const StopToken& stop) {
    Attempt attempt;
    return Commit(change, stop, &attempt);
  }
  // The first snapshot of a new table.
  Status Create(const Snapshot& first);

 private:
  Result<int64_t> FindLatest(int64_t known);
  // The head with the change applied; Conflict where the matrix says so.
  Result<Snapshot> Apply(const Change& change, const std::shared_ptr<const Snapshot>& head);
  Status CheckPairs(const Change& change, const std::shared_ptr<const Snapshot>& head);
  // Moves inline entries into a manifest and merges manifests of one size tier, so that both stay few.
  Status Tidy(Snapshot* next, std::vector<std::string>* written);
  Result<Committed> TryCommit(const Change& change, const StopToken& stop, Attempt* attempt);
  // The snapshot that an earlier call left unsettled, if it stands; null if it does not.
  Result<std::shared_ptr<const Snapshot>> Settle(const std::shared_ptr<const Snapshot>& head,
                                                 Attempt* attempt);
  // Deletes what was written for a change and is not named by `kept`. What cannot be deleted now is tried
  // again with the attempt, and else left to garbage collection.
  void Sweep(const Snapshot* kept, Attempt* attempt);
  // Puts a snapshot. True: it is ours. False: another has this version.
  Result<bool> PutSnapshot(const Snapshot& next);

  std::shared_ptr<Environment> env_;
  std::string prefix_;
  std::mutex mutex_;
  std::shared_ptr<const Snapshot> newest_;  // that this process has seen
};

}  // namespace headrace::table
