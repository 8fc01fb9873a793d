// A disk cache of blocks fetched from a remote store, within a budget and shared by the processes of a
// machine.
//
// Every block is used once an epoch, so a fixed subset is an optimal policy: a block is
// kept if it is among the first that fit in an order by a key (an LRU would evict each just before its use).
// A block file appears whole or not at all (O_TMPFILE and linkat), blocks are fetched under a lock that the
// system frees with the process, and whoever is killed leaves nothing behind. Where the file system has no
// O_TMPFILE a block is written as <n>.part and renamed; what a killed process left of such is written over,
// or removed an hour later.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "store/object_store.h"
#include "stream/permute.h"

namespace headrace::stream {

class BlockCache {
 public:
  // `identity`: of what the blocks hold. `expected_bytes`: of all `blocks` together. `unnamed`: use O_TMPFILE
  // where there is one.
  static Result<std::unique_ptr<BlockCache>> Open(const std::string& folder, int64_t budget_bytes,
                                                  uint64_t identity, int64_t blocks, double expected_bytes,
                                                  bool unnamed = true);
  ~BlockCache();

  // Whether to ask for this block here: it is of the share, and lies here or still fits.
  bool Keeps(int64_t block) const;
  // The block's bytes: from the disk, or from `fetch`, which one process of the machine calls.
  Result<store::Bytes> Get(int64_t block, const std::function<Result<std::string>()>& fetch);

  const std::string& folder() const { return own_; }  // where its blocks lie
  int64_t hit_bytes() const { return hit_bytes_; }
  int64_t miss_bytes() const { return miss_bytes_; }

 private:
  BlockCache() = default;
  bool Chosen(int64_t block) const;
  std::string PathOf(int64_t block) const;
  Result<store::Bytes> Map(int64_t block);
  Result<store::Bytes> Load(int64_t block, const std::function<Result<std::string>()>& fetch);
  Status Keep(int64_t block, const std::string& bytes);
  Status Recount();

  std::string folder_;
  std::string own_;  // folder_/<identity>
  bool unnamed_ = true;
  int64_t budget_ = 0;
  int64_t chosen_ = 0;  // blocks that fit
  std::optional<Permutation> choice_;
  std::mutex mutex_;
  std::map<int64_t, std::shared_future<Result<store::Bytes>>> loading_;
  std::atomic<bool> full_{false};
  std::atomic<int64_t> hit_bytes_{0};
  std::atomic<int64_t> miss_bytes_{0};
};

}  // namespace headrace::stream
