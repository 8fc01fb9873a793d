// A folder with the latency and bandwidth of a remote bucket: every request takes a round trip, and all share
// one link.
//
// For tests, benchmarks, and for asking what a data path would do on such a store before moving there:
//   headrace --catalog slow:latency=50ms,rate=100MB:/data/cat stream photos --image 224
#pragma once

#include <memory>
#include <string>

#include "store/object_store.h"

namespace headrace::store {

// "slow:OPTION,…:FOLDER". Options: latency=50ms; rate=100MB (a second); outage=PATH (while this file exists,
// requests fail as Unavailable); log=PATH (each request appends "key offset length" to it).
Result<std::shared_ptr<ObjectStore>> OpenSlowStore(const std::string& location, bool sync);

}  // namespace headrace::store
