#include "store/store.h"

#include <sys/stat.h>

#include "store/cached_store.h"
#include "store/disk_cache.h"
#include "store/local_store.h"
#include "store/s3_store.h"
#include "store/slow_store.h"

namespace headrace::store {

Result<std::shared_ptr<ObjectStore>> OpenStore(const std::string& location, OpenOptions options) {
  if (location.starts_with("s3://")) {
    HEADRACE_ASSIGN(auto config, S3ConfigFromEnvironment(location));
    const std::string name = config.endpoint + "/" + location;
    auto bucket = NewS3Store(std::move(config));
    if (!options.immutable) return bucket;
    HEADRACE_ASSIGN(auto cache, DiskCache::FromEnvironment());
    if (cache == nullptr) return bucket;
    return NewCachedStore(std::move(bucket), std::move(cache), name, std::move(options.immutable));
  }
  if (location.starts_with("slow:")) return OpenSlowStore(location, options.sync);
  const size_t scheme = location.find("://");
  if (scheme != std::string::npos && location.substr(0, scheme) != "file") {
    return Status::Unsupported("'" + location + "': catalogs live in a folder or at s3://bucket/prefix");
  }
  const std::string folder = scheme == std::string::npos ? location : location.substr(scheme + 3);
  struct stat info {};
  if (!options.create && stat(folder.c_str(), &info) != 0) return Status::FromErrno(errno, "open", folder);
  return OpenLocalStore(folder, {.sync = options.sync});
}

}  // namespace headrace::store
