// An S3 bucket, or a part of one, as a store. Needs conditional puts (If-None-Match: *), which AWS, MinIO,
// Ceph and versitygw have; `ProbeConditionalPut` finds out.
//
// Each operation has one deadline, retries included. 408, 429, 5xx, refused and broken connections are tried
// again with exponential backoff and full jitter; a conditional put whose first answer was lost is settled by
// reading the key back.
#pragma once

#include <memory>
#include <string>

#include "store/object_store.h"
#include "store/s3_config.h"

namespace headrace::store {

Result<std::shared_ptr<ObjectStore>> OpenS3Store(const std::string& location);
std::shared_ptr<ObjectStore> NewS3Store(S3Config config);

}  // namespace headrace::store
