// Commits: many writers, no server. Data is written first; a commit is one put-if-absent of the next
// snapshot. Whoever loses the race reads the newer head, checks whether the change still makes sense on it
// (conflict.h holds the matrix), applies it to that (apply.h), and tries again.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "table/change.h"
#include "table/environment.h"

namespace headrace::table {

class View;

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

  // NotFound if the version is not there any more: only a stub stands for it.
  Result<std::shared_ptr<const Snapshot>> Read(int64_t version);
  // The same, or the stub.
  Result<std::shared_ptr<const Snapshot>> ReadLine(int64_t version);
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
  // Sets of deleted rows, manifests and lists of taken items that `next` is to name. Adds their keys to
  // `written`.
  Status WriteLists(const Change& change, const View& head, Snapshot* next,
                    std::vector<std::string>* written);
  Result<Committed> TryCommit(const Change& change, const StopToken& stop, Attempt* attempt);
  // The snapshot that an earlier call left unsettled, if it stands; null if it does not.
  Result<std::shared_ptr<const Snapshot>> Settle(const std::shared_ptr<const Snapshot>& head,
                                                 Attempt* attempt);
  // Deletes what was written for a change and is not named by `kept`. What cannot be deleted now is tried
  // again with the attempt, and else left to garbage collection.
  void Sweep(const Snapshot* kept, Attempt* attempt);
  // When a version was put, by the store's clock; 0: nobody knows.
  Result<int64_t> PutTime(int64_t version);
  // Puts a snapshot. True: it is ours. False: another has this version.
  Result<bool> PutSnapshot(const Snapshot& next);

  std::shared_ptr<Environment> env_;
  std::string prefix_;
  std::mutex mutex_;
  std::shared_ptr<const Snapshot> newest_;  // that this process has seen
};

}  // namespace headrace::table
