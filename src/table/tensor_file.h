// Fixed-width tensors: an uncompressed Arrow IPC file that any Arrow reader opens, and beside it our `.sums`
// file: where each batch's values lie, and a checksum of every 4 KiB. Any row is one multiplication away.
//
// Sums file (little-endian): "HRSUMS01"; u32 chunk bytes; u32 cell bytes; u64 data file bytes; u32 batches;
// per batch u64 rows, u64 values offset, u64 validity offset (2^64-1: none); u32 chunks; u32 per chunk (low
// half of XXH3-64); u64 XXH3-64 of all before.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/cancel.h"
#include "store/object_store.h"
#include "table/fragment.h"
#include "table/rows.h"

namespace headrace::table {

struct TensorBatch {
  int64_t rows = 0;
  int64_t values_offset = 0;
  int64_t validity_offset = -1;
};

struct TensorSums {
  int64_t cell_bytes = 0;
  int64_t file_bytes = 0;
  std::vector<TensorBatch> batches;
  std::vector<uint32_t> sums;
};
std::string EncodeTensorSums(const TensorSums& sums);
Result<TensorSums> DecodeTensorSums(std::string_view bytes, const std::string& key);

class TensorWriter {
 public:
  virtual ~TensorWriter() = default;
  // `array`: the field's fixed-size list, conformed.
  virtual Status Write(const std::shared_ptr<arrow::Array>& array) = 0;
  // Makes the files visible; the bytes of both.
  virtual Result<int64_t> Finish() = 0;
};
Result<std::unique_ptr<TensorWriter>> NewTensorWriter(store::ObjectStore* store, const std::string& prefix,
                                                      const Uuid& file, const Field& field);

class TensorFile {
 public:
  static Result<std::shared_ptr<TensorFile>> Open(store::ObjectStore* store, const std::string& prefix,
                                                  const Uuid& file);

  int64_t rows() const { return rows_; }
  Status CheckWhole() const;  // as ObjectReader::CheckWhole
  // Reads all of the file, and checks it against its sums.
  Status VerifyAll(const StopToken& stop);
  // A fixed-size list array of these rows; a view of the file where the rows are one run of a mapped batch
  // without nulls.
  Result<std::shared_ptr<arrow::Array>> Read(const Field& field, const Rows& rows);

 private:
  TensorFile() = default;
  Result<std::shared_ptr<arrow::Array>> Cells(const Field& field, const Rows& rows);
  Result<store::Bytes> Checked(int64_t offset, int64_t length);
  // The same of many ranges at once: one round trip to a distant store.
  Result<std::vector<store::Bytes>> Checked(const std::vector<store::ByteRange>& ranges);
  Status Verify(int64_t first_chunk, const store::Bytes& chunks);

  std::shared_ptr<store::ObjectReader> reader_;
  std::shared_ptr<store::ObjectReader> sums_reader_;
  TensorSums sums_;
  std::vector<int64_t> first_row_;  // of each batch
  std::unique_ptr<std::atomic<uint8_t>[]> verified_;
  int64_t rows_ = 0;
};

}  // namespace headrace::table
