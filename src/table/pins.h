// What this process reads and writes of versions, told to garbage collection: whoever holds a version for
// long (a training stream, a notebook, a backfill) gets a lease on it, renewed until it lets go. What is
// short needs none: nothing is deleted before a grace period is over.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "store/object_store.h"
#include "table/lease.h"

namespace headrace::table {

struct PinnedVersion {
  std::string prefix;  // the table's folder
  int64_t version = 0;
  bool writes = false;  // files are being written, to be committed after this version
  auto operator<=>(const PinnedVersion&) const = default;
};

struct PinTiming {
  double lease_after_seconds = 300;  // that a version is held
  double ttl_seconds = 90;           // it is renewed three times as often

  // HEADRACE_LEASE_AFTER, in seconds, in place of 300: for who collects with a shorter grace period.
  static PinTiming FromEnvironment();
};

class Pins : public std::enable_shared_from_this<Pins> {
 public:
  explicit Pins(std::shared_ptr<store::ObjectStore> store, PinTiming timing = PinTiming::FromEnvironment());
  ~Pins();
  Pins(const Pins&) = delete;
  Pins& operator=(const Pins&) = delete;

  // Until what it gives is destroyed. May be called from any thread. Where leases
  // cannot be written (a read-only catalog), the version is held by the grace period alone.
  std::shared_ptr<const void> Add(PinnedVersion pin);
  // Takes and renews the leases that are due. The process's own thread calls it.
  void Tend();

 private:
  struct Held {
    int64_t count = 0;
    double due = 0;                // when a lease is to be taken or renewed
    std::unique_ptr<Lease> lease;  // none before that
    bool tended = false;           // somebody writes the lease now
  };
  void Remove(const PinnedVersion& pin);
  void Loop();
  double NextDue() const;
  // The lease, renewed, or a new one where there is none or it is lost; null where that fails.
  std::unique_ptr<Lease> Renewed(const PinnedVersion& pin, std::unique_ptr<Lease> lease) const;

  std::shared_ptr<store::ObjectStore> store_;
  PinTiming timing_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<PinnedVersion, Held> held_;
  std::vector<std::unique_ptr<Lease>> ended_;  // to be released
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace headrace::table
