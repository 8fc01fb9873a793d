// What is half put in a store whose programs died: multipart uploads that nobody completes any more.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace headrace::store {

// A store that keeps uploads until they are completed or aborted. (Others keep nothing of what was not put.)
class KeepsUploads {
 public:
  virtual ~KeepsUploads() = default;
  // Aborts those that were begun before `before_us`, by the store's clock, or with `dry_run` only counts
  // them.
  virtual Result<int64_t> AbortUploads(int64_t before_us, bool dry_run) = 0;
};

}  // namespace headrace::store
