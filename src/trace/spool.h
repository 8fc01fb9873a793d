// spool: records on the local disk, before they are rows of a table. A record that was appended is in the
// kernel: a killed process loses none. The page of its format is docs/format/spool.md.
//
//   <root>/w-<id>/lock           flock held while the writer lives, then by whoever commits what it left;
//   "w-<id>" is the writer <root>/w-<id>/alive          flock held while the writer lives, by nobody else
//   <root>/w-<id>/00000001.seg   records, in order; the next begins at kSegmentBytes, or where no room is
//   left
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/forks.h"
#include "base/ids.h"
#include "base/status.h"
#include "trace/kinds.h"
#include "trace/segment.h"

namespace headrace::trace {

inline constexpr int64_t kSegmentBytes = 16 << 20;
inline constexpr int64_t kMappedBytes = 4 << 20;  // of a mapped segment, where no record is larger

struct SpoolOptions {
  int64_t segment_bytes = kSegmentBytes;
  // Records are copied into mapped segments of this size, without a system call; 0: each is written. Where
  // the folder cannot be mapped, or is full, they are written all the same.
  int64_t mapped_bytes = 0;
};

// One writer's folder, open for appending. Thread-safe.
class Spool {
 public:
  static Result<std::unique_ptr<Spool>> Create(const std::string& root, const SpoolOptions& options = {});
  ~Spool();  // lets go of the lock; the folder stays for whoever commits it
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // After an error nothing of the record is there, and later ones may be taken again. Invalid in a fork of
  // the process that made the spool, which makes one of its own.
  Status Append(Kind kind, std::string_view payload);
  // Makes room for records of so many bytes, frames included, in one segment: appended next, they lie in the
  // segment that is given. By one thread at a time that appends.
  Result<int64_t> Reserve(int64_t bytes);
  // What was appended before survives a crash of the machine. Others append meanwhile.
  Status Sync();
  const std::string& folder() const { return folder_; }
  const std::string& writer() const { return writer_; }
  Position end() const;

 private:
  Spool() = default;
  Status OpenNext(int64_t bytes);
  Status MakeRoom(int64_t bytes);

  std::string folder_, writer_;
  SpoolOptions options_;
  std::optional<FileLock> lock_, alive_;
  uint64_t generation_ = ForkGeneration();  // a fork has this object too, and must not use it
  mutable std::mutex mutex_;
  std::shared_ptr<SegmentWriter> segment_;
  Position synced_;  // everything before it is durable
};

struct ReadReport {
  Position end;                         // after the last whole record
  std::vector<std::string> complaints;  // what could not be read, and where
  std::vector<int64_t> damaged;         // the segments of the complaints
};
// The records of a writer's folder from `from` on, in order; Cancelled by `each` ends it, and is no error. A
// segment that is dropped meanwhile is passed over. A torn end is what a killed process leaves: not an error.
// Bytes that are damaged further in cost the rest of their segment, and are complained about.
Result<ReadReport> ReadSpool(const std::string& folder, Position from,
                             const std::function<Status(const Record&)>& each);

// Segments before `position` are removed, but the damaged ones kept aside: they lie as 00000001.seg.damaged
// for a person to look at, and are not read any more.
Status DropSegments(const std::string& folder, Position position, const std::set<int64_t>& damaged = {});

// The writers' folders below `root`.
std::vector<std::string> SpoolFolders(const std::string& root);
std::string WriterOf(const std::string& folder);
// Whether its writer commits it, as programs before version 2 of the format did.
bool IsVersion1(const std::string& folder);
// Whether this writer's process lives (or a fork of it).
bool IsAlive(const std::string& root, const std::string& writer);
// Bytes of its segments after `from`.
int64_t SpoolBytes(const std::string& folder, Position from);
// Quarantined below `root`: folders and segments that could not be read.
std::vector<std::string> DamagedSpools(const std::string& root);

// Holds a dead writer's folder, so that one process alone takes it over. Null while its writer lives.
class Takeover {
 public:
  static std::unique_ptr<Takeover> Try(const std::string& folder);
  // Everything in it that can be read is committed: it goes. Where it holds damaged segments it stays, under
  // the name that is given ("…/damaged-<writer>"), and nobody reads it any more.
  std::string Remove();

 private:
  Takeover(std::string folder, FileLock lock) : folder_(std::move(folder)), lock_(std::move(lock)) {}
  std::string folder_;
  FileLock lock_;
};

}  // namespace headrace::trace
