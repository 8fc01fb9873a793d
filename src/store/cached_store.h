// A distant store whose immutable objects are kept on this machine's disk once they were read.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "store/disk_cache.h"
#include "store/object_store.h"

namespace headrace::store {

// `name`: the store's among all stores, its address included. `immutable`: whether the object of a key never
// changes as long as it is there; all others go to `inner`.
std::shared_ptr<ObjectStore> NewCachedStore(std::shared_ptr<ObjectStore> inner,
                                            std::shared_ptr<DiskCache> cache, std::string name,
                                            std::function<bool(std::string_view key)> immutable);

// The store itself, below such a cache: for whoever must see what is stored, or has a cache of its own.
std::shared_ptr<ObjectStore> BelowCache(std::shared_ptr<ObjectStore> store);

}  // namespace headrace::store
