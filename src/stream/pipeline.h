// The threads of a stream: a planner that prepares steps ahead of the consumer, requests to remote stores,
// and decoders that write into the batch's buffers.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/cancel.h"
#include "base/task_pool.h"
#include "stream/assemble.h"
#include "stream/block_cache.h"
#include "stream/sequence.h"
#include "stream/stream.h"

namespace headrace::stream {

// What a pipeline reads. Borrowed: it must outlive the pipeline.
struct PipelineInput {
  const Sequence* sequence = nullptr;
  std::vector<Source*> sources;
  std::vector<BlockCache*> caches;                                   // of each source; null: none
  std::vector<int64_t> cache_block;                                  // rows of a cached block
  std::vector<std::shared_ptr<const std::vector<int32_t>>> lengths;  // packing by a column: by ordinal
  const StreamOptions* options = nullptr;
  std::shared_ptr<MemoryBudget> memory;
  State start;
  int64_t tears = 0;               // MappedFile::tears when the stream began
  std::vector<std::string> files;  // what the paths of its files begin with, as far as they are mapped
};

struct Counters {
  std::atomic<int64_t> decode_us{0};
  std::atomic<int64_t> fetch_us{0};
  std::atomic<int64_t> waited_us{0};
  std::atomic<int64_t> samples{0};
  std::atomic<int64_t> batches{0};
  std::atomic<int64_t> batch_bytes{0};
  std::atomic<int64_t> packed_tokens{0};
  std::atomic<int64_t> packed_slots{0};
  std::mutex mutex;
  int64_t bad = 0;
  std::vector<std::pair<int64_t, std::string>> bad_rows;
};

class Pipeline {
 public:
  Pipeline(PipelineInput input, Counters* counters);
  ~Pipeline();
  // As Stream::Next.
  Result<std::shared_ptr<const Batch>> Next(const std::function<bool()>& interrupted);
  // Where the stream stands after what Next gave last.
  const State& after() const { return after_; }

 private:
  struct PendingBatch;
  struct Window;
  using PendingPtr = std::shared_ptr<PendingBatch>;
  using WindowPtr = std::shared_ptr<Window>;
  using Tokens = std::shared_ptr<const std::vector<int32_t>>;
  using Cells = std::vector<std::pair<size_t, size_t>>;  // (sample, column)

  void Plan();
  // The next batch to make, or the end of an epoch; null: the stream is being torn down. Errors end the
  // stream.
  Result<PendingPtr> PlanStep();
  Result<PendingPtr> PlanPackedStep();
  Status Locate(PendingBatch* pending, const std::vector<Point>& points);
  Status LoadChunks(PendingBatch* pending);
  Result<WindowPtr> PlanWindow(const Point& start);
  Result<WindowPtr> WindowAt(const Point& start);
  // The tokens of these rows, made by the tokenizer's threads.
  Status Tokenize(const std::vector<Point>& points, std::vector<Tokens>* tokens);
  bool tokenizes() const { return in_.options->pack.tokenizer != nullptr; }
  static constexpr size_t kPackColumn = 0;  // a stream that packs reads no other
  table::Kind TokenKind() const;
  Status Reserve(const PendingPtr& pending);
  Status ReservePacked(const PendingPtr& pending);
  Status Hold(const PendingPtr& pending, const std::vector<int64_t>& sizes, int64_t extra,
              MemoryBudget::Grant* grant);
  void Start(const PendingPtr& pending);
  void Fetch(const PendingPtr& pending);
  void FetchCells(const PendingPtr& pending, Cells cells);
  void FetchBlock(const PendingPtr& pending, int source, int64_t block, const Cells& cells);
  void FetchRows(const PendingPtr& pending, size_t column, int source, int32_t fragment,
                 std::vector<size_t> members);
  void Decode(const PendingPtr& pending);
  void DecodeSample(PendingBatch* pending, size_t index);
  void FinishBatch(PendingBatch* pending);
  Status Collect(PendingBatch* pending);
  Status Pack(PendingBatch* pending);
  Status Substitute(PendingBatch* pending, size_t index);
  Result<std::optional<store::Bytes>> MediaOf(Sample* sample, size_t column);
  Status Fill(PendingBatch* pending, size_t index);
  void ReportBad(const Sample& sample);
  bool MayQueue() const;
  bool Over() const { return in_.options->epochs > 0 && at_.point.epoch >= in_.options->epochs; }
  bool Stopping() const { return stop_.stopped(); }
  // Tries again while the store is away, until the deadline.
  Status Persist(const std::function<Status()>& attempt);

  PipelineInput in_;
  Counters* counters_;
  Steps steps_;
  bool remote_ = false;
  size_t ahead_ = 4;

  // Used by the planner's thread only.
  State at_;
  int64_t step_number_ = 0;
  std::deque<PendingPtr> located_;  // chunks asked for, not yet waited for
  WindowPtr window_;
  std::future<Result<WindowPtr>> next_window_;  // with a tokenizer: made while this one is used

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<PendingPtr> queue_;
  size_t beyond_ = 0;  // batches in the queue that belong to the next epoch
  bool consumer_waits_ = false;
  Status failed_;
  State after_;
  StopSource stop_;  // stopped by the destructor

  std::unique_ptr<TaskPool> tokenizers_;  // with a tokenizer
  std::unique_ptr<TaskPool> windows_;     // one thread, that waits for those
  std::unique_ptr<TaskPool> decoders_;
  std::unique_ptr<TaskPool> requests_;
  std::thread planner_;
};

}  // namespace headrace::stream
