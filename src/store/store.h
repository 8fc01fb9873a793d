// store: where bytes are kept. Begin here; the interface is object_store.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "store/object_store.h"

namespace headrace::store {

struct OpenOptions {
  bool sync = true;    // local folders: fsync what is written
  bool create = true;  // local folders: make the folder if it is not there
  // Buckets: whether a key's object never changes. Such are kept on this machine's disk (disk_cache.h);
  // empty: none are.
  std::function<bool(std::string_view key)> immutable{};
};

// "s3://bucket/prefix" (endpoint, region and credentials as the AWS tools find them) or a folder.
Result<std::shared_ptr<ObjectStore>> OpenStore(const std::string& location, OpenOptions options = {});

}  // namespace headrace::store
