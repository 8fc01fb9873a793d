// Whoever commits small fragments joins them, in the background: tables that many small commits go into stay
// as quick to open and to scan as any. Where a table's versions expire, it collects them too.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/cancel.h"
#include "store/object_store.h"
#include "table/lease.h"
#include "table/snapshot.h"

namespace headrace::table {

struct Environment;

struct UpkeepTiming {
  double share = 0.2;           // of the time that it may work
  double closing_seconds = 1;   // that a run which is under way may go on when the process ends
  int64_t versions = 32;        // after a look at a table, before the next
  double collect_every = 3600;  // seconds from one collection of a table by this process to the next
};

// One thread, of low priority, from the first commit on that leaves a table in need. Works with an
// environment of its own, so that nothing which it holds keeps the owner's alive.
class Upkeeper {
 public:
  explicit Upkeeper(std::shared_ptr<store::ObjectStore> store, UpkeepTiming timing = {});
  ~Upkeeper();
  Upkeeper(const Upkeeper&) = delete;
  Upkeeper& operator=(const Upkeeper&) = delete;

  // Somebody here has committed this version of a table. Cheap, and never fails: the commit stands.
  void Committed(const Snapshot& snapshot) noexcept;
  // Until nothing is due (tests).
  void Settle();
  int64_t runs() const;  // that have committed something

 private:
  void Loop();
  // What a table needs.
  struct Needs {
    bool joining = false;
    bool collecting = false;
    int64_t version = 0;  // that said so
  };
  Needs NeedsOf(const Snapshot& snapshot, bool small);
  void Run(const Uuid& table, const Needs& needs);
  std::unique_ptr<Lease> TakeTurn(const Uuid& table);

  std::shared_ptr<store::ObjectStore> store_;
  UpkeepTiming timing_;
  std::shared_ptr<Environment> env_;  // of the thread
  LeaseWatch watch_;                  // of the thread: of those who had the turn
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<Uuid, Needs> due_;
  std::map<Uuid, int64_t> looked_at_;    // the version of the last look
  std::map<Uuid, double> collected_at_;  // the time of the last collection, or of the first commit
  bool working_ = false;
  bool closing_ = false;
  double rest_until_ = 0;
  int64_t runs_ = 0;
  StopSource stop_;
  std::thread thread_;
};

// Whether a look at this version's fragments may find many small ones: from what the snapshot alone says.
bool MayWantUpkeep(const Snapshot& snapshot);

}  // namespace headrace::table
