// Garbage collection: old versions expire, and files that no version needs any more go, in two steps.
//
// 1. Expiry is a commit: versions that the table's retention does not keep are not read any more. Tags and
//    refs keep theirs.
// 2. Once the grace period has passed since, the files that only they needed are deleted, and those that
//    writers left behind. Leases (pins.h) hold what is being read and written; they are looked at again after
//    a commit that refuses every writer which began before (Snapshot::collected), so that no version ever
//    names a file that goes. docs/decisions/032 says why this needs no clocks that agree.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "store/object_store.h"

namespace headrace::table {

inline constexpr int64_t kDefaultGraceUs = int64_t{24} * 3600 * 1'000'000;

struct CollectOptions {
  std::optional<int64_t> keep_us;      // instead of the table's retention, this time; 0: for ever
  int64_t grace_us = kDefaultGraceUs;  // files of what expired, or was left behind, stay for so long
  bool dry_run = false;
  // By which leases are seen to lapse. Tests have their own clock, and their own way to wait.
  std::function<double()> monotonic = MonotonicSeconds;
  std::function<bool(double seconds)> wait{};  // whether to go on; empty: by the commit's stop token
};

// The store's own time, in microseconds since 1970: when an object that is put now is said to have been put.
// Of a distant store, some time ago, since its machines' clocks may differ.
Result<int64_t> StoreNow(store::ObjectStore* store);

struct CommitOptions;
struct SeenLease;
// The leases whose names begin like this and that have not lapsed. Those that were not renewed for their ttl
// by the store's clock at `now_us` are watched for as long, and removed if they give no sign of life; in a
// dry run they count as lapsed.
Result<std::vector<SeenLease>> LiveLeases(store::ObjectStore* store, const std::string& name_prefix,
                                          int64_t now_us, const CollectOptions& collect,
                                          const CommitOptions& options);

struct ObjectCount {
  int64_t objects = 0;
  int64_t bytes = 0;
  void Add(int64_t size) { objects += 1, bytes += size; }
  void Add(const ObjectCount& other) { objects += other.objects, bytes += other.bytes; }
};

// What holds some files, and those that nothing above it in the list holds.
struct Holder {
  enum class Kind { kNewest, kRetention, kTag, kLease, kGrace };
  Kind kind = Kind::kNewest;
  std::string name;      // kTag: the tag. kLease: its holder
  int64_t versions = 0;  // that it keeps
  int64_t version = 0;   // the newest of them
  ObjectCount held;
};

const char* HolderName(Holder::Kind kind);  // "newest", "retention", "tag", "lease", "grace"

struct CollectReport {
  std::string table;
  bool dropped = false;              // the table has no name any more: all of it goes
  int64_t versions = 0;              // that the table ever had
  int64_t expired = 0;               // by this run
  int64_t expired_before = 0;        // by earlier ones
  ObjectCount deleted;               // or that would be
  int64_t stubs = 0;                 // snapshots that are one line now, or would be
  std::vector<Holder> holders;       // what holds the rest; kGrace: nothing but the grace period does
  ObjectCount unknown;               // objects with names that this program does not know: left alone
  std::vector<std::string> damaged;  // versions that cannot be read: nothing is deleted
  int64_t version = 0;               // the newest afterwards
  int64_t keep_us = 0;               // the retention that was used
  int64_t erased = 0;  // rows deleted by this version were to be erased, and are, from the newest one's files
};

}  // namespace headrace::table
