// Internal to pipeline*.cc: a batch that is being made, and the layout of cached blocks.
#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "stream/packing.h"
#include "stream/pipeline.h"

namespace headrace::stream {

struct Pipeline::PendingBatch {
  // A token range of one sample in a packed row.
  struct PackedPiece {
    size_t sample = 0;
    int64_t begin = 0;
    int64_t length = 0;
    Tokens tokens;  // of the whole document; null: in the sample's chunk
  };

  PendingBatch() : batch(std::make_shared<Batch>()), ready(done.get_future()) {}

  int64_t rows = 0;
  bool epoch_end = false;
  bool packed = false;
  std::vector<Sample> samples;
  std::vector<std::vector<PackedPiece>> packed_rows;
  std::shared_ptr<Batch> batch;
  std::shared_ptr<Reservation> downloads;  // until the batch is made
  std::atomic<int> tasks_left{0};
  std::promise<Status> done;
  std::future<Status> ready;

  // An error that is not a sample's own.
  void Fail(const Status& status) {
    const std::lock_guard lock(mutex_);
    if (failure_.ok()) failure_ = status;
  }
  Status failure() {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

 private:
  std::mutex mutex_;
  Status failure_;
};

inline int64_t MicrosSince(double start) { return static_cast<int64_t>((MonotonicSeconds() - start) * 1e6); }

// The store cannot be reached: not a fault of the sample.
inline bool IsOutage(const Status& status) {
  return status.Is(Code::kUnavailable) || status.Is(Code::kTimeout);
}

// A window of documents and its plan.
struct Pipeline::Window {
  Point start;
  std::vector<Point> points;
  std::vector<Tokens> tokens;  // with a tokenizer: of each document
  PackPlan plan;
};

// A cached block: u32 cells; per cell u64 offset, u64 length (2^64 - 1: null); then the bytes. Cells are the
// media columns of each row, row by row.
Result<std::string> FetchWholeBlock(Source* source, int64_t block, int64_t block_rows);
Result<std::optional<store::Bytes>> CellOfBlock(const store::Bytes& block, const std::vector<Column>& columns,
                                                int64_t row, size_t column, const Chunk& chunk,
                                                int32_t chunk_row);

}  // namespace headrace::stream
