// ObjectStore: named immutable byte strings, the only interface through which Headrace reads and writes
// stored data.
//
// Keys are '/'-separated paths without empty, "." or ".." parts. One interface, four stores: local files,
// memory, S3, and a faulty wrapper for tests. Every function may be called from many threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::store {

// Bytes that stay valid as long as any copy of this lives (an mmap, a download, a string).
class Bytes {
 public:
  Bytes() = default;
  Bytes(std::shared_ptr<const void> owner, const uint8_t* data, int64_t size)
      : owner_(std::move(owner)), data_(data), size_(size) {}
  static Bytes FromString(std::string text);

  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(data_), static_cast<size_t>(size_)}; }
  // A part of these bytes that shares their owner; [offset, offset + length) must lie inside.
  Bytes Slice(int64_t offset, int64_t length) const;
  const std::shared_ptr<const void>& owner() const { return owner_; }

 private:
  std::shared_ptr<const void> owner_;
  const uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

struct ByteRange {
  int64_t offset = 0;
  int64_t length = 0;
};

struct ObjectInfo {
  std::string key;
  int64_t size = 0;
  // When it was put: microseconds since 1970 UTC, by the store's clock. 0 where the store does not say: such
  // an object has no age.
  int64_t modified_us = 0;
};

// One object opened for many ranged reads. Local and in-memory reads are views without a copy.
class ObjectReader {
 public:
  virtual ~ObjectReader() = default;
  int64_t size() const { return size_; }
  // Exactly [offset, offset + length). A range past the end is Corrupt: whoever asks knew the size from a
  // manifest.
  Result<Bytes> Read(int64_t offset, int64_t length);
  // The same for many ranges, in order; ranges at most `max_gap` bytes apart are fetched together (see
  // CoalesceRanges).
  Result<std::vector<Bytes>> ReadMany(const std::vector<ByteRange>& ranges, int64_t max_gap = kCoalesceGap);
  static constexpr int64_t kCoalesceGap = 256 << 10;  // a gap that is cheaper to read than a request
  const std::string& key() const { return key_; }
  // True where Read costs a pointer addition: callers then need not plan large reads.
  virtual bool is_mapped() const { return false; }
  // Corrupt where a mapped file has been cut off, so that zeros may have been read in place of its bytes. For
  // who has used what Read gave.
  virtual Status CheckWhole() const { return Status::Ok(); }

 protected:
  ObjectReader(std::string key, int64_t size) : key_(std::move(key)), size_(size) {}
  virtual Result<Bytes> DoRead(int64_t offset, int64_t length) = 0;
  virtual Result<std::vector<Bytes>> DoReadMany(const std::vector<ByteRange>& ranges, int64_t max_gap);

 private:
  std::string key_;
  int64_t size_;
};

// An object being written piece by piece; nothing is visible before Commit, and nothing is left after a drop.
class Upload {
 public:
  virtual ~Upload() = default;  // without Commit: the object never existed
  virtual Status Append(std::string_view bytes) = 0;
  virtual Status Commit() = 0;
  int64_t written() const { return written_; }

 protected:
  int64_t written_ = 0;
};

class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  // For messages: "/data/cat" or "s3://bucket/prefix". Never holds a credential.
  virtual std::string Describe() const = 0;
  // The file behind a key, for programs that read files themselves (DuckDB); nothing where there is none.
  virtual std::optional<std::string> LocalPath(std::string_view /*key*/) const { return std::nullopt; }

  virtual Result<Bytes> Get(std::string_view key) = 0;
  virtual Result<Bytes> GetRange(std::string_view key, ByteRange range) = 0;
  virtual Result<std::shared_ptr<ObjectReader>> Open(std::string_view key) = 0;
  virtual Result<bool> Exists(std::string_view key) = 0;

  virtual Status Put(std::string_view key, std::string_view bytes) = 0;
  // AlreadyExists if any object has this key. Atomic among all writers of the store. Unknown (or Timeout) if
  // the outcome could not be learned: read the key back.
  virtual Status PutIfAbsent(std::string_view key, std::string_view bytes) = 0;
  virtual Result<std::unique_ptr<Upload>> StartUpload(std::string_view key) = 0;
  // Ok also if the key was not there.
  virtual Status Delete(std::string_view key) = 0;
  // Up to `limit` keys that begin with `prefix` and sort after `start_after`, ascending by bytes.
  virtual Result<std::vector<ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                               int64_t limit) = 0;

  // True where an operation takes no round trip over a network (memory, local disks): decides how the newest
  // snapshot is found, and whether pages are compressed.
  virtual bool is_local() const { return true; }

  // An advisory lock, held until the returned handle is destroyed and released by the system if the process
  // dies. It only saves retries: correctness never depends on it. Null where the store has no locks.
  virtual std::shared_ptr<void> CourtesyLock(std::string_view /*key*/) { return nullptr; }
};

Status ValidateKey(std::string_view key);

struct CoalescedRange {
  ByteRange range;
  std::vector<size_t> members;  // indexes into the input
};
// Of one read that joins several ranges, on distant stores.
inline constexpr int64_t kCoalesceBytes = 8 << 20;
// Merges ranges whose gap is at most `max_gap` bytes into reads of at most `max_bytes` (single larger ranges
// stay whole).
std::vector<CoalescedRange> CoalesceRanges(const std::vector<ByteRange>& ranges, int64_t max_gap,
                                           int64_t max_bytes);

// Puts an object whose key holds a fresh random id: an object that is there already is an earlier attempt of
// ours.
Status PutFresh(ObjectStore* store, std::string_view key, std::string_view bytes);

// What the keys of ProbeConditionalPut begin with; it deletes them again.
inline constexpr const char* kProbePrefix = "probe-";

// Puts one key twice and demands that the second put is refused: a store that ignores conditions would lose
// commits.
Status ProbeConditionalPut(ObjectStore* store);

}  // namespace headrace::store
