// Reads small ranges through a cache of large aligned blocks, where each request costs a round trip.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "store/object_store.h"

namespace headrace::store {

// Blocks that were read, of any number of objects, the last used ones up to a budget.
class BlockPool {
 public:
  static constexpr int64_t kBlockBytes = 1 << 20;

  explicit BlockPool(int64_t budget_bytes) : budget_(budget_bytes) {}
  uint64_t NextReader();
  // Empty (and no owner) where it is not kept.
  Bytes Find(uint64_t reader, int64_t block);
  void Keep(uint64_t reader, int64_t block, Bytes bytes);
  void Forget(uint64_t reader);
  int64_t bytes() const;

 private:
  using Key = std::pair<uint64_t, int64_t>;
  using Entries = std::list<std::pair<Key, Bytes>>;
  mutable std::mutex mutex_;
  int64_t budget_;
  int64_t bytes_ = 0;
  uint64_t readers_ = 0;
  Entries recent_;
  std::map<Key, Entries::iterator> index_;
};

// Reads `inner` in aligned blocks of 1 MiB, kept in `pool`; missing neighbours are fetched together. A mapped
// reader is given back as it is.
std::shared_ptr<ObjectReader> ReadAhead(std::shared_ptr<ObjectReader> inner, std::shared_ptr<BlockPool> pool);

}  // namespace headrace::store
