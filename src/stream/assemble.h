// Rows of chunks into columns of a batch.
#pragma once

#include <memory>
#include <vector>

#include "stream/batch.h"

namespace headrace::stream {

// One row of a batch that is being made.
struct Sample {
  Point point;
  int source = 0;
  int64_t ordinal = 0;
  RowPlace place;
  int64_t row_id = -1;
  bool wanted = false;  // false: padding
  std::shared_ptr<const Chunk> chunk;
  int32_t row = 0;                                         // in the chunk
  Status bad;                                              // why it is not valid
  std::vector<Result<std::optional<store::Bytes>>> media;  // by column, where fetched ahead
  std::vector<std::shared_ptr<arrow::Array>> by_row;       // by column: arrays of length 1
};

// Copies one row of a tensor column to `out`. Corrupt if it is null.
Status CopyTensor(const Column& column, const arrow::Array& values, int64_t row, uint8_t* out);

// A column of values: one for each sample, null where the sample is not wanted or bad.
Result<std::shared_ptr<arrow::Array>> GatherValues(const Column& column, size_t index,
                                                   const std::vector<Sample>& samples);

// A batch as Arrow: tensors as fixed-size lists over the batch's own memory, media bytes as binary; with the
// columns valid, epoch, position and row_id.
Result<std::shared_ptr<arrow::RecordBatch>> BatchToArrow(std::shared_ptr<const Batch> batch);

}  // namespace headrace::stream
