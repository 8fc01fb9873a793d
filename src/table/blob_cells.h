// Cells of a blob column as arrays (the struct of BlobFields()), and the bytes that they speak of.
//
// In a table's own files `pack` is the id of one of its packs. Cells that leave the table (scan, take, SQL)
// name the table too, "<table id>/<pack id>", so that whoever gets them can find the bytes: a writer that
// receives such cells copies the bytes, or shares the pack where it is its own table's.
#pragma once

#include <arrow/type_fwd.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "store/object_store.h"
#include "table/schema.h"

namespace headrace::table {

// A struct of exactly BlobFields(), by name: what is left of a blob column where its metadata was lost.
bool HasBlobShape(const arrow::DataType& type);

class BlobCells {
 public:
  // Invalid where the array is no blob column's struct. Null children count as cells without bytes.
  static Result<BlobCells> Of(const std::shared_ptr<arrow::Array>& blobs);

  int64_t length() const;
  bool IsNull(int64_t row) const;  // no blob
  // Exactly one of these holds for a cell that is not null, or it has no bytes.
  bool IsInline(int64_t row) const;
  bool IsPacked(int64_t row) const;
  bool IsInPlace(int64_t row) const;
  std::string_view InlineBytes(int64_t row) const;
  std::string_view Pack(int64_t row) const;
  std::string_view Uri(int64_t row) const;
  int64_t Offset(int64_t row) const;  // of a packed cell
  int64_t PackedBytes(int64_t row) const;
  uint64_t Checksum(int64_t row) const;  // of the bytes; 0: none is known
  const std::shared_ptr<arrow::BinaryArray>& inline_bytes() const { return inline_; }
  const arrow::StructArray& cells() const { return *cells_; }

  // The bytes of packed cells, checked against their checksums; packs are read in few ranges. `prefix`: of
  // the table whose packs cells without a table's id mean.
  using OpenFn = std::function<Result<std::shared_ptr<store::ObjectReader>>(const std::string& key)>;
  Result<std::vector<store::Bytes>> Read(const std::vector<int64_t>& rows, const std::string& prefix,
                                         const OpenFn& open) const;
  // Where the object that holds a packed cell lies: "tables/<id>/packs/<id>.pack".
  Result<std::string> KeyOf(int64_t row, const std::string& prefix) const;

 private:
  std::shared_ptr<arrow::StructArray> cells_;
  std::shared_ptr<arrow::StringArray> pack_;
  std::shared_ptr<arrow::StringArray> uri_;
  std::shared_ptr<arrow::Int64Array> offset_;
  std::shared_ptr<arrow::Int64Array> length_;
  std::shared_ptr<arrow::UInt64Array> checksum_;
  std::shared_ptr<arrow::BinaryArray> inline_;
};

// Cells as they leave the table with this prefix ("tables/<id>/").
Result<std::shared_ptr<arrow::Array>> WithTable(const std::shared_ptr<arrow::Array>& blobs,
                                                const std::string& prefix);
// The same for the `pack` field alone.
Result<std::shared_ptr<arrow::Array>> PacksWithTable(const arrow::Array& packs, const std::string& prefix);

// Cells that hold their bytes themselves (`inline`), as in a file outside of the catalog they must. Every
// packed cell names its table. The caller chooses how many cells that may be at once (PackedBytes).
Result<std::shared_ptr<arrow::Array>> WithBytes(const std::shared_ptr<arrow::Array>& blobs,
                                                const BlobCells::OpenFn& open);

}  // namespace headrace::table
