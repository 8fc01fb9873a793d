// Columns of fragments, out of their files, with overlays laid over them.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <arrow/type_fwd.h>

#include "table/environment.h"
#include "table/fragment.h"
#include "table/projection.h"
#include "table/row_ids.h"
#include "table/rows.h"

namespace headrace::table {

class ParquetFile;
class TensorFile;

// The files of one table. Copies share the count of bytes; may be used from many threads.
class FragmentReader {
 public:
  FragmentReader(std::shared_ptr<Environment> env, std::string prefix)
      : env_(std::move(env)),
        prefix_(std::move(prefix)),
        bytes_read_(std::make_shared<std::atomic<int64_t>>(0)),
        views_(std::make_shared<Views>()) {}

  // One column of some physical rows: a top-level field as in a Projection. Holes read as its default or
  // null.
  Result<std::shared_ptr<arrow::Array>> ReadTop(const Fragment& fragment, const Field& top,
                                                const Rows& rows) const;
  // Down to the end of the projection's path, nulls of the structs above it applied.
  Result<std::shared_ptr<arrow::Array>> ReadPath(const Fragment& fragment, const Projection& projection,
                                                 const Rows& rows) const;
  // What a projection gives out: the same, but blobs and their packs name the table, as they leave it.
  Result<std::shared_ptr<arrow::Array>> Read(const Fragment& fragment, const Projection& projection,
                                             const Rows& rows) const;
  // The ids of the fragment's rows, and where each lies.
  Result<RowIds> Ids(const Fragment& fragment) const;
  // What is known of the projection's rows [begin, end) without reading them: from the page index, or because
  // they are holes. Otherwise nothing.
  Result<std::optional<FieldStats>> PageStats(const Fragment& fragment, const Projection& projection,
                                              int64_t begin, int64_t end) const;

  // Corrupt where a file was cut off of which this or its copies gave out views: whoever used them asks then.
  Status CheckViews() const;
  // Bytes of pages and tensors that this and its copies have handed out.
  int64_t bytes_read() const { return bytes_read_->load(); }

 private:
  // Files that arrays given out may be views of, while they are open.
  struct Views {
    std::mutex mutex;
    std::map<const TensorFile*, std::weak_ptr<TensorFile>> files;
  };
  Result<std::shared_ptr<ParquetFile>> OpenParquet(const DataFile& file) const;
  Result<std::shared_ptr<arrow::Array>> ReadFile(const DataFile& file, const Field& top,
                                                 const Rows& rows) const;
  // `base`, the column's values of these rows, with those of the overlay in their places.
  Result<std::shared_ptr<arrow::Array>> LayOver(std::shared_ptr<arrow::Array> base, const Fragment& fragment,
                                                const Overlay& overlay, const Field& top,
                                                const Rows& rows) const;

  std::shared_ptr<Environment> env_;
  std::string prefix_;
  std::shared_ptr<std::atomic<int64_t>> bytes_read_;
  std::shared_ptr<Views> views_;
};

// What is known of a leaf of the top-level field `top` once the fragment's overlays are laid over what is
// known of its file.
std::optional<FieldStats> WithOverlays(const Fragment& fragment, int32_t top, int32_t leaf,
                                       std::optional<FieldStats> file);

// The statistics of `rows` rows that no file of their fragment holds: what they read as.
FieldStats HoleStats(const Field& leaf, int64_t rows);

}  // namespace headrace::table
