// Few large reads instead of many small ones, where each costs a round trip.
#pragma once

#include <memory>

#include "store/object_store.h"

namespace headrace::store {

// Reads `inner` in aligned blocks of 1 MiB and keeps the 32 last used ones; missing neighbours are fetched
// together. A mapped reader is given back as it is.
std::shared_ptr<ObjectReader> ReadAhead(std::shared_ptr<ObjectReader> inner);

}  // namespace headrace::store
