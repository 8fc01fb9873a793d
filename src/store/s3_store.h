// An S3 bucket, or a part of one, as a store. Needs conditional puts (If-None-Match: *), which AWS, MinIO,
// Ceph and versitygw have; `ProbeConditionalPut` finds out.
//
// A conditional put whose first answer was lost is settled by reading the key back. What is sent again, and
// when: store/s3_client.h.
#pragma once

#include <memory>

#include "store/object_store.h"
#include "store/s3_config.h"

namespace headrace::store {

std::shared_ptr<ObjectStore> NewS3Store(S3Config config);

}  // namespace headrace::store
