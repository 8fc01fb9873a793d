// Media bytes back to back in row order.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "store/object_store.h"
#include "table/fragment.h"

namespace headrace::table {

class PackWriter {
 public:
  PackWriter(store::ObjectStore* store, std::string prefix, int64_t pack_bytes, int64_t inline_bytes)
      : store_(store), prefix_(std::move(prefix)), pack_bytes_(pack_bytes), inline_bytes_(inline_bytes) {}

  // Moves inline bytes that are too large into packs and fills in pack, offset, length and checksum. `blobs`:
  // a blob column's struct array. Adds what each pack received to `used`.
  Result<std::shared_ptr<arrow::Array>> Write(const Field& field, const std::shared_ptr<arrow::Array>& blobs,
                                              std::map<Uuid, int64_t>* used);
  // Makes the last pack visible.
  Status Finish();
  int64_t bytes() const { return bytes_; }

 private:
  Status Add(std::string_view bytes, Uuid* pack, int64_t* offset);

  store::ObjectStore* store_;
  std::string prefix_;
  int64_t pack_bytes_;
  int64_t inline_bytes_;
  Uuid pack_;
  std::unique_ptr<store::Upload> upload_;
  int64_t bytes_ = 0;
};

}  // namespace headrace::table
