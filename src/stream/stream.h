// stream: rows and columns of tables in a computed shuffled order, decoded and batched for training. Begin
// here.
//
//   StreamOptions options{.columns = {"image", "caption"}, .batch = 64, .seed = 17, .rank = r, .world = w};
//   options.images = {{"image", R"([{"op": "random_resized_crop", "size": [224, 224]}])"}};
//   HEADRACE_ASSIGN(auto stream, Stream::Open({{view}}, options));
//   for (;;) {
//     HEADRACE_ASSIGN(const auto batch, stream->Next());
//     if (!batch) break;                               // the epoch is over; the next Next() begins the next
//     one
//   }
//
// The order: order.h. Which positions a rank gets: steps.h. What is read: source.h. The threads: pipeline.h.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "stream/batch.h"
#include "stream/mixture.h"
#include "stream/state.h"
#include "stream/steps.h"
#include "stream/tokenizer.h"
#include "table/view.h"

namespace headrace::stream {

enum class OnError { kRaise, kMask, kSubstitute };

struct PackOptions {
  std::string tokens;     // a column of lists of whole numbers; empty: no packing
  std::string lengths;    // a column of whole numbers: how many tokens each row has
  int64_t length = 0;     // tokens of a packed row
  int64_t window = 0;     // rows that are planned together; 0: 8,192, or 1,024 that are tokenized here
  bool truncate = false;  // cut longer documents off instead of going on in another row
  // Makes tokens of a text: `tokens` is then a column of strings, and there are no lengths.
  std::shared_ptr<const Tokenizer> tokenizer;
};

struct StreamInput {
  table::View view;
  std::string where;
};

struct StreamOptions {
  std::vector<std::string> columns;                         // empty: all
  std::vector<std::pair<std::string, std::string>> images;  // column, steps (image_ops.h)
  int64_t batch = 64;                                       // rows per rank
  uint64_t seed = 0;
  int rank = 0;
  int world = 1;
  int local_rank = 0;  // of the processes of this machine
  int local_world = 1;
  EpochEnd end = EpochEnd::kPad;
  int64_t epochs = 0;  // nothing is read ahead for later ones; 0: no end
  bool shuffle = true;
  int64_t window = 0;          // samples; 0: chosen
  int64_t lanes = 0;           // 0: chosen
  int64_t block = 0;           // rows; 0: chosen
  std::string weights;         // a column: rows are drawn in proportion to it, with replacement
  std::vector<Stage> mixture;  // of several inputs: their shares
  Exhaust exhaust = Exhaust::kRepeat;
  PackOptions pack;
  OnError on_error = OnError::kRaise;
  int threads = 0;               // that decode; 0: one per core
  int64_t memory_bytes = 0;      // 0: a quarter of the machine's, at most 4 GiB
  int prefetch = 0;              // batches ahead; 0: chosen
  std::string cache;             // a folder for what was fetched from a distant store; empty: none
  int64_t cache_bytes = 0;       // its budget
  double deadline_seconds = 60;  // how long an unreachable store is waited for
  int worker = 0;                // of `workers` that take turns batch by batch (torch's DataLoader)
  int workers = 1;
  StopToken stop;
  ProgressFn progress;
};

struct StreamStats {
  int64_t samples = 0;
  int64_t batches = 0;
  double seconds = 0;         // since the first batch was asked for
  double waited_seconds = 0;  // in Next(), for batches that were not ready
  double decode_seconds = 0;  // of all threads
  double fetch_seconds = 0;   // of all requests
  int threads = 0;
  int64_t media_bytes = 0;  // read from the store
  int64_t batch_bytes = 0;  // handed over
  int64_t chunk_hits = 0;
  int64_t chunk_misses = 0;
  int64_t cache_hits = 0;  // bytes from the cache on disk
  int64_t cache_misses = 0;
  int64_t bad = 0;                                        // samples that could not be made
  std::vector<std::pair<int64_t, std::string>> bad_rows;  // row id and why; the first 100
  int64_t packed_tokens = 0;
  int64_t packed_slots = 0;  // tokens that would have fitted
  int64_t memory_bytes = 0;  // of batches, now
  int64_t memory_peak = 0;
  // What the stream's speed is held by: "store", "decode" or "consumer".
  std::string bottleneck;
};

// One position of the order, as `--plan` shows it.
struct PlannedSample {
  Point point;
  int source = 0;
  int64_t ordinal = 0;
  int64_t row_id = 0;
};

class Stream {
 public:
  static Result<std::unique_ptr<Stream>> Open(std::vector<StreamInput> inputs, const StreamOptions& options);
  virtual ~Stream() = default;

  // The next batch; null once an epoch is over. After an error, the same error.
  // Cancelled if `interrupted`, asked some 20 times a second while there is nothing to give, says so.
  virtual Result<std::shared_ptr<const Batch>> Next(const std::function<bool()>& interrupted = {}) = 0;
  // Where the stream stands: after the last batch that Next gave.
  virtual State state() const = 0;
  // Goes on from there. A state of another version of the table finishes its epoch there; the next one is of
  // the stream's own version, so appended rows join then. Invalid if the state is of another selection.
  virtual Status Load(const State& state) = 0;
  virtual StreamStats stats() const = 0;
  // Rows of an epoch; -1: endless. Steps left in it.
  virtual int64_t length() const = 0;
  virtual int64_t steps_left() const = 0;
  virtual int64_t steps_of_epoch() const = 0;  // from its first row
  // The first positions of all ranks together from where the stream stands, without touching data.
  virtual Result<std::vector<PlannedSample>> Plan(int64_t count) const = 0;
  virtual std::vector<Column> columns() const = 0;
  virtual const StreamOptions& options() const = 0;
};

}  // namespace headrace::stream
