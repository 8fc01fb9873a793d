// Files of one folder as objects. Durable by default: a put returns after the file and its folder are on the
// disk.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "store/object_store.h"

namespace headrace::store {

struct LocalOptions {
  bool sync = true;  // false: skip every fsync (scratch data; a power cut may lose acknowledged commits)
  std::function<int(int fd)> sync_folder;  // instead of fsync(2) of a folder (tests); empty: fsync
};

// The folder is made, with its parents, if it is not there.
Result<std::shared_ptr<ObjectStore>> OpenLocalStore(const std::string& folder, LocalOptions options = {});

}  // namespace headrace::store
