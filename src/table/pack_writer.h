// Media bytes back to back in row order.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "store/object_store.h"
#include "table/blob_cells.h"
#include "table/fragment.h"

namespace headrace::table {

class PackWriter {
 public:
  PackWriter(store::ObjectStore* store, std::string prefix, int64_t pack_bytes, int64_t inline_bytes)
      : store_(store), prefix_(std::move(prefix)), pack_bytes_(pack_bytes), inline_bytes_(inline_bytes) {}

  // Moves bytes that are too large for a cell into packs and fills in pack, offset, length and checksum.
  // `blobs`: a blob column's struct array, its offset 0. Cells of other tables of this catalog are copied,
  // bytes and all; those of this table share its packs. Adds what each pack received or shares to `used`. An
  // error names the row.
  Result<std::shared_ptr<arrow::Array>> Write(const Field& field, const std::shared_ptr<arrow::Array>& blobs,
                                              std::map<Uuid, int64_t>* used);
  // Makes the last pack visible.
  Status Finish();
  int64_t bytes() const { return bytes_; }
  // Of the packs begun, visible or not.
  const std::vector<std::string>& keys() const { return keys_; }

 private:
  Status Add(std::string_view bytes, Uuid* pack, int64_t* offset);
  Result<std::shared_ptr<store::ObjectReader>> Open(const std::string& key);
  // The next cells from `row` on that lie in other tables' packs, up to kCopyBytes of them, by row.
  Result<std::map<int64_t, store::Bytes>> Fetch(const BlobCells& cells, int64_t row);
  // A packed cell of this table: the bytes must be there. Its pack's id.
  Result<Uuid> Share(const BlobCells& cells, int64_t row);

  store::ObjectStore* store_;
  std::string prefix_;
  int64_t pack_bytes_;
  int64_t inline_bytes_;
  Uuid pack_;
  std::unique_ptr<store::Upload> upload_;
  int64_t bytes_ = 0;
  std::vector<std::string> keys_;
  std::map<std::string, std::shared_ptr<store::ObjectReader>> sources_;  // packs that cells are copied from
};

}  // namespace headrace::table
