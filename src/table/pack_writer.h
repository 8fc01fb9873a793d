// Media bytes back to back in row order.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <arrow/type_fwd.h>

#include "store/object_store.h"
#include "table/blob_cells.h"
#include "table/data_writer.h"
#include "table/fragment.h"
#include "table/view.h"

namespace headrace::table {

class PackWriter {
 public:
  PackWriter(View base, const WriteOptions& options)
      : base_(std::move(base)),
        store_(base_.environment()->store.get()),
        prefix_(base_.prefix()),
        copied_packs_(options.copied_packs),
        pack_bytes_(options.pack_bytes),
        inline_bytes_(options.inline_blob_bytes),
        share_equal_(options.share_equal_blobs) {}

  // Moves bytes that are too large for a cell into packs and fills in pack, offset, length and checksum.
  // `blobs`: a blob column's struct array, its offset 0. Cells of other tables of this catalog are copied,
  // bytes and all; so are those in packs of this table that the base version does not hold, which may go at
  // any time; the others share their packs. Cells that came from one place share one again (of the last
  // kMostPlaces). Adds what each pack received or shares to `used`. An error names the row.
  Result<std::shared_ptr<arrow::Array>> Write(const Field& field, const std::shared_ptr<arrow::Array>& blobs,
                                              std::map<Uuid, int64_t>* used);
  // Makes the last pack visible.
  Status Finish();
  int64_t bytes() const { return bytes_; }
  // Of the packs begun, visible or not.
  const std::vector<std::string>& keys() const { return keys_; }

 private:
  static constexpr size_t kMostPlaces = 1 << 20;  // about 100 MB

  struct Place {
    Uuid pack;
    int64_t offset = 0;
  };
  // Where bytes that were written before lie: copied ones by where they came from, given ones by their
  // SHA-256.
  using Places = std::unordered_map<std::string, Place>;
  static const Place* Find(const Places& places, const std::string& name) {
    const auto it = places.find(name);
    return it == places.end() ? nullptr : &it->second;
  }
  static void Remember(Places* places, std::string name, const Place& place) {
    if (places->size() >= kMostPlaces) places->clear();
    places->emplace(std::move(name), place);
  }
  Status Add(std::string_view bytes, Uuid* pack, int64_t* offset);
  Result<std::shared_ptr<store::ObjectReader>> Open(const std::string& key);
  // Whether cells may go on lying in the pack at this key.
  Result<bool> Shares(const std::string& key);
  // The next cells from `row` on whose bytes must be copied, up to kCopyBytes of them, by row.
  Result<std::map<int64_t, store::Bytes>> Fetch(const BlobCells& cells, int64_t row);
  // A packed cell of this table: the bytes must be there. Its pack's id.
  Result<Uuid> Share(const BlobCells& cells, int64_t row);

  View base_;
  store::ObjectStore* store_;
  std::string prefix_;
  std::optional<std::set<std::string>> shared_;  // keys of the base version's packs, once they are asked for
  std::set<Uuid> copied_packs_;
  int64_t pack_bytes_;
  int64_t inline_bytes_;
  bool share_equal_;
  Places copied_, equal_;
  Uuid pack_;
  std::unique_ptr<store::Upload> upload_;
  int64_t bytes_ = 0;
  std::vector<std::string> keys_;
  std::map<std::string, std::shared_ptr<store::ObjectReader>> sources_;  // packs that cells are copied from
};

}  // namespace headrace::table
