// Objects in this process's memory: for tests and scratch tables. Gone when the last pointer to the store
// goes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.h"
#include "store/object_store.h"

namespace headrace::store {

// `clock` tells when objects are put, in microseconds since 1970.
std::shared_ptr<ObjectStore> NewMemoryStore(std::function<int64_t()> clock = NowMicros);

}  // namespace headrace::store
