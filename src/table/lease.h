// Leases: who is at work on something, told to others without a coordinator and without clocks that agree.
//
// A lease is a chain of objects leases/<name>/<epoch>, each put only if absent. Its holder shows that it is
// alive by putting the next one. Another may take it over once the newest has not changed for the lease's
// `ttl` on the other's own monotonic clock (LeaseWatch). That makes nobody safe: a holder that slept may go
// on as if it held the lease. What must not happen twice is fenced by the commit that it ends in; a lease
// saves work.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "store/object_store.h"

namespace headrace::table {

struct LeaseTerms {
  std::string holder;       // for people: "ada@laptop, process 17"
  double ttl_seconds = 90;  // without a sign of life, after which it has lapsed
  std::string table;        // what is held: the id of a table, …
  int64_t version = 0;      // … and its version: its files are read,
  bool writes = false;      // or files are written that are to be committed after it
};

// The newest object of a lease's chain.
struct SeenLease {
  std::string name;
  int64_t epoch = 0;
  std::string nonce;  // of the holder
  bool released = false;
  LeaseTerms terms;
  int64_t renewed_us = 0;  // by the store's clock, to be shown
  bool damaged = false;    // it cannot be read: `terms` has the usual ttl, and nothing says what is held
};

class Lease {
 public:
  // Conflict where another holds it, and `lapsed` is not what stands there.
  static Result<std::unique_ptr<Lease>> Take(std::shared_ptr<store::ObjectStore> store, std::string name,
                                             LeaseTerms terms, const SeenLease* lapsed = nullptr);
  ~Lease() = default;  // it lapses

  const std::string& name() const { return name_; }
  // A sign of life. Conflict: somebody else has taken it over.
  Status Renew();
  // Others may take it at once. `name_is_unique`: nobody ever takes this name again, and nothing of it stays.
  Status Release(bool name_is_unique);

 private:
  Lease(std::shared_ptr<store::ObjectStore> store, std::string name, LeaseTerms terms);
  Status PutNext(bool released);

  std::shared_ptr<store::ObjectStore> store_;
  std::string name_;
  LeaseTerms terms_;
  std::string nonce_;
  int64_t epoch_ = 0;
};

// The leases whose names begin like this, without those released. One listing, and a read for each.
Result<std::vector<SeenLease>> ListLeases(store::ObjectStore* store, const std::string& name_prefix);

// Deletes what is left of a lapsed lease whose name nobody takes again.
Status RemoveLease(store::ObjectStore* store, const SeenLease& lapsed);

// Tells which leases have lapsed, by this process's clock alone. Not thread-safe.
class LeaseWatch {
 public:
  // `now`: seconds of a clock that never runs backwards.
  explicit LeaseWatch(std::function<double()> now);
  void See(const std::vector<SeenLease>& leases);
  bool Lapsed(const SeenLease& lease) const;
  // Until these have lapsed, if no sign of life comes.
  double SecondsLeft(const std::vector<SeenLease>& leases) const;

 private:
  struct First {
    int64_t epoch;
    std::string nonce;
    double at;
  };
  double Left(const SeenLease& lease) const;
  std::function<double()> now_;
  std::map<std::string, First> first_;  // when the newest epoch of each was first seen
};

}  // namespace headrace::table
