// Objects in this process's memory: for tests and scratch tables. Gone when the last pointer to the store
// goes.
#pragma once

#include <memory>

#include "store/object_store.h"

namespace headrace::store {

std::shared_ptr<ObjectStore> NewMemoryStore();

}  // namespace headrace::store
