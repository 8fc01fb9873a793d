// Opening an object whose size is known already: a request less, in stores where asking for it is one.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "store/object_store.h"

namespace headrace::store {

class OpensSized {
 public:
  virtual ~OpensSized() = default;
  // Nothing is asked. An object of another size, or none, is an error of the first read.
  virtual Result<std::shared_ptr<ObjectReader>> OpenSized(std::string_view key, int64_t size) = 0;
};

// ObjectStore::Open where the store needs no size.
inline Result<std::shared_ptr<ObjectReader>> OpenSized(ObjectStore* store, std::string_view key,
                                                       int64_t size) {
  auto* sized = dynamic_cast<OpensSized*>(store);
  return sized == nullptr ? store->Open(key) : sized->OpenSized(key, size);
}

}  // namespace headrace::store
