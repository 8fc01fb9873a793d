// A finished batch: whole columns, immutable once handed over.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "store/object_store.h"
#include "stream/memory.h"
#include "stream/source.h"
#include "stream/state.h"

namespace headrace::stream {

struct BatchColumn {
  std::string name;
  ColumnKind kind = ColumnKind::kValues;
  std::string dtype;                               // kImage, kTensor: numpy's name, or bfloat16
  std::vector<int64_t> shape;                      // kImage, kTensor: with the batch's rows first
  std::shared_ptr<Buffer> data;                    // kImage, kTensor: row-major
  std::vector<std::optional<store::Bytes>> blobs;  // kBlob: (rows)
  std::shared_ptr<arrow::Array> values;            // kValues: (rows)
};

struct Batch {
  int64_t rows = 0;
  std::vector<uint8_t> valid;     // (rows): 0 where padded or masked
  std::vector<int64_t> epoch;     // (rows)
  std::vector<int64_t> position;  // (rows): in the epoch; -1 where padded
  std::vector<int64_t> row_id;    // (rows): -1 where padded
  std::vector<int32_t> source;    // (rows): of a mixture
  std::vector<BatchColumn> columns;
  // Packed batches: the row ids of the documents in each row.
  std::vector<std::vector<int64_t>> documents;
  State after;  // the stream, once this batch is used
  std::shared_ptr<Reservation> downloads;
};

}  // namespace headrace::stream
