// What was read of immutable objects, kept on this machine's disk and shared by its processes.
//
// An object is kept in blocks of 4 KiB, each with its XXH3-64; 4,096 of them are a segment, which is a sparse
// file:
//
//   0      magic, object (32 hex digits of a SHA-256), its bytes, the segment's number, when it was made, a
//   checksum 4096   u64 checksum of each block; 0: not there 36864  the blocks, at their places
//
// No process needs a lock: a segment gets its name whole (link), and whoever writes a block that another
// writes at the same time writes the same bytes. What is torn, cut off or damaged does not match its
// checksum, and is read from the store again. Segments go least recently used first (their atime, which we
// set) once there are more bytes than the budget, and in any case a week after they were made (their mtime):
// what was erased in the store does not stay here.
//
// Nothing here is ever an error: a disk that is full or read-only keeps nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/object_store.h"

namespace headrace::store {

struct DiskCacheOptions {
  std::string folder;
  int64_t budget_bytes = -1;  // -1: a tenth of what is free on the disk, 8 GiB at most
  int64_t age_us = int64_t{7} * 24 * 3600 * 1'000'000;
};

class DiskCache {
 public:
  static constexpr int64_t kBlockBytes = 4096;
  static constexpr int64_t kSegmentBlocks = 4096;
  static constexpr int64_t kSegmentBytes = kBlockBytes * kSegmentBlocks;

  explicit DiskCache(DiskCacheOptions options) : options_(std::move(options)) {}
  // HEADRACE_CACHE_BYTES ("20GB"; 0: none), in `objects` of HEADRACE_CACHE, else of XDG_CACHE_HOME/headrace,
  // else of
  // ~/.cache/headrace. Null: none. Invalid: the variable is no size.
  static Result<std::shared_ptr<DiskCache>> FromEnvironment();

  // The bytes of an object of which something is kept. `object`: its name among all stores.
  std::optional<int64_t> SizeOf(const std::string& object);
  // Copies what is kept of the blocks in [offset, offset + length) of an object of `size` bytes to `out`; the
  // rest is left as it was, and returned: ascending ranges of whole blocks. `offset` is a block's begin, the
  // end one's end or the object's.
  std::vector<ByteRange> Read(const std::string& object, int64_t size, const ByteRange& range, char* out);
  // Keeps whole blocks, from `offset` on.
  void Keep(const std::string& object, int64_t size, int64_t offset, std::string_view bytes);
  void Forget(const std::string& object);

  int64_t hit_bytes() const { return hit_bytes_; }

 private:
  struct Segment;  // an open one
  std::string FolderOf(const std::string& id) const { return options_.folder + "/" + id.substr(0, 2); }
  std::optional<Segment> Open(const std::string& id, int64_t number, int64_t size, bool make);
  bool Make(const std::string& id, int64_t number, int64_t size) const;
  bool Write(const Segment& segment, int64_t first, std::string_view bytes) const;
  // Deletes what is too old, and more than the budget. `always`: also if another process did so within the
  // hour.
  void Sweep(bool always);

  const DiskCacheOptions options_;
  std::mutex sweeping_;
  std::atomic<int64_t> budget_{-1};     // as the last sweep found it
  std::atomic<int64_t> kept_bytes_{0};  // since then
  std::atomic<int64_t> rest_until_{0};  // microseconds: after a failure nothing is kept until then
  std::atomic<bool> looked_{false};
  std::atomic<int64_t> hit_bytes_{0};
};

}  // namespace headrace::store
