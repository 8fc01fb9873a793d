#include "stream/pipeline.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "base/clock.h"
#include "base/limits.h"
#include "stream/packing.h"
#include "stream/pending_batch.h"

namespace headrace::stream {
namespace {

// Between two questions whether to stop. Python's signal handlers run only when its main thread asks for them
// (PyErr_CheckSignals), and nothing tells this thread that a signal came: so it looks. People do not notice a
// twentieth of a second, and a consumer that waits costs nothing by it: batches wake it at once.
constexpr std::chrono::milliseconds kInterruptLook(50);

constexpr int kRequestThreads = 32;
constexpr size_t kChunkLookahead = 4;    // batches whose pages are asked for early, on distant stores
constexpr size_t kBeyond = 2;            // batches of the next epoch that are made in this one
constexpr double kStarvedSeconds = 0.5;  // a caller holds all memory and waits for more
constexpr double kStarvedLookSeconds = 0.1;

}  // namespace

Pipeline::Pipeline(PipelineInput input, Counters* counters)
    : in_(std::move(input)), counters_(counters), at_(in_.start), after_(in_.start) {
  const StreamOptions& options = *in_.options;
  steps_ = {options.batch, options.rank, options.world, options.end};
  for (const Source* source : in_.sources) remote_ |= !source->local();
  ahead_ = options.prefetch > 0 ? static_cast<size_t>(options.prefetch) : remote_ ? 16 : 4;
  decoders_ = std::make_unique<TaskPool>(options.threads > 0 ? options.threads : DefaultThreads());
  if (tokenizes()) {
    tokenizers_ = std::make_unique<TaskPool>(decoders_->threads());
    windows_ = std::make_unique<TaskPool>(1);
  }
  if (remote_) requests_ = std::make_unique<TaskPool>(kRequestThreads);
  planner_ = std::thread([this] { Plan(); });
}

Pipeline::~Pipeline() {
  {
    const std::lock_guard lock(mutex_);  // the planner either has not tested its condition yet, or waits
    stop_.Stop();
  }
  changed_.notify_all();
  planner_.join();
  windows_.reset();
  tokenizers_.reset();
  requests_.reset();  // what it finishes may still be given to the decoders
  decoders_.reset();
}

Status Pipeline::Persist(const std::function<Status()>& attempt) {
  const double start = MonotonicSeconds();
  double pause = 0.01;
  for (;;) {
    const Status status = attempt();
    if (!IsOutage(status)) return status;
    if (MonotonicSeconds() - start >= in_.options->deadline_seconds) {
      return status.Wrap("the store has been away for " +
                         std::to_string(static_cast<int>(in_.options->deadline_seconds)) +
                         " s; the stream goes on from its last state_dict() once it is back");
    }
    if (stop_.token().WaitFor(pause)) return Status::Cancelled();
    pause = std::min(2.0, pause * 2);
  }
}

void Pipeline::Plan() {
  const bool packed = !in_.options->pack.tokens.empty();
  const size_t lookahead = remote_ ? kChunkLookahead : 1;
  Status status;
  while (!Stopping() && status.ok()) {
    while (located_.size() < lookahead && status.ok() && !Over()) {
      auto planned = packed ? PlanPackedStep() : PlanStep();
      if (planned.ok()) {
        located_.push_back(std::move(planned).value());
      } else {
        status = planned.status();
      }
    }
    if (located_.empty()) break;
    const PendingPtr pending = std::move(located_.front());
    located_.pop_front();
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return MayQueue() || Stopping(); });
    }
    if (Stopping()) break;
    if (!pending->epoch_end) {
      Status ready = LoadChunks(pending.get());
      if (ready.ok()) ready = Reserve(pending);
      if (!ready.ok()) {
        status = ready;
        located_.clear();
        break;
      }
    }
    {
      const std::lock_guard lock(mutex_);
      if (pending->epoch_end || beyond_ > 0) ++beyond_;
      queue_.push_back(pending);
    }
    changed_.notify_all();
    Start(pending);
  }
  if (status.ok()) return;
  for (const auto& pending : located_) {  // steps before the one that failed
    if (!pending->epoch_end && !(LoadChunks(pending.get()).ok() && Reserve(pending).ok())) break;
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(pending);
    }
    Start(pending);
  }
  auto last = std::make_shared<PendingBatch>();
  last->done.set_value(status);
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(last));
  changed_.notify_all();
}

// Few batches of the next epoch are made before this one is over: a consumer that stops at its end has not
// waited for them.
bool Pipeline::MayQueue() const { return queue_.size() < ahead_ && beyond_ <= kBeyond; }

Result<Pipeline::PendingPtr> Pipeline::PlanStep() {
  const StreamOptions& options = *in_.options;
  for (;;) {
    auto pending = std::make_shared<PendingBatch>();
    const auto step = StepAt(steps_, at_.point, in_.sequence->length());
    if (!step) {
      at_.point = {at_.point.epoch + 1, 0};
      step_number_ = 0;
      pending->epoch_end = true;
      pending->batch->after = at_;
      return pending;
    }
    at_.point = step->after;
    if (step_number_++ % options.workers != options.worker) continue;
    pending->batch->after = at_;
    HEADRACE_TRY(Persist([&] { return Locate(pending.get(), step->points); }));
    const bool fill = options.end != EpochEnd::kShort;
    pending->rows = fill ? options.batch : static_cast<int64_t>(step->points.size());
    pending->samples.resize(static_cast<size_t>(pending->rows));
    return pending;
  }
}

Status Pipeline::Locate(PendingBatch* pending, const std::vector<Point>& points) {
  pending->samples.clear();
  pending->samples.reserve(points.size());
  std::set<std::tuple<int, int32_t, int32_t>> asked;
  for (const Point& point : points) {
    Sample sample;
    const auto place = in_.sequence->At(point);
    Source* source = in_.sources[static_cast<size_t>(place.source)];
    sample.point = point;
    sample.source = place.source;
    sample.ordinal = place.ordinal;
    HEADRACE_ASSIGN(sample.place, source->selection().At(place.ordinal));
    HEADRACE_ASSIGN(sample.row_id, source->selection().RowIdAt(sample.place));
    sample.wanted = true;
    if (requests_ && !source->local()) {
      const auto page = sample.place.row / source->chunk_rows();
      if (asked.insert({sample.source, sample.place.fragment, page}).second &&
          !source->HasChunk(sample.place)) {
        requests_->Submit([this, source, at = sample.place] {
          if (!Stopping()) (void)source->ChunkOf(at).ok();
        });
      }
    }
    pending->samples.push_back(std::move(sample));
  }
  return Status::Ok();
}

Status Pipeline::LoadChunks(PendingBatch* pending) {
  for (auto& sample : pending->samples) {
    if (!sample.wanted) continue;
    Source* source = in_.sources[static_cast<size_t>(sample.source)];
    HEADRACE_TRY(Persist([&]() -> Status {
      HEADRACE_ASSIGN(sample.chunk, source->ChunkOf(sample.place));
      return Status::Ok();
    }));
    sample.row = Source::ChunkRow(*sample.chunk, sample.place);
  }
  return Status::Ok();
}

// Memory for the batch's slots and for what will be downloaded for it.
Status Pipeline::Reserve(const PendingPtr& pending) {
  const auto& columns = in_.sources[0]->columns();
  const bool packed = !in_.options->pack.tokens.empty();
  Batch* batch = pending->batch.get();
  batch->rows = pending->rows;
  if (packed) return ReservePacked(pending);
  std::vector<int64_t> sizes;
  int64_t downloads = 0;
  bool keeps = false;
  for (size_t c = 0; c < columns.size(); ++c) {
    const Column& column = columns[c];
    BatchColumn out{column.name, column.kind, column.dtype, {}, nullptr, {}, nullptr};
    if (column.kind == ColumnKind::kImage || column.kind == ColumnKind::kTensor) {
      sizes.push_back(pending->rows * column.row_bytes);
      out.shape.push_back(pending->rows);
      out.shape.insert(out.shape.end(), column.shape.begin(), column.shape.end());
    }
    if (column.kind == ColumnKind::kBlob) {
      out.blobs.resize(static_cast<size_t>(pending->rows));
      keeps = true;
    }
    if (column.is_media()) {
      for (const auto& sample : pending->samples) {
        if (!sample.wanted || in_.sources[static_cast<size_t>(sample.source)]->local()) continue;
        downloads += std::max<int64_t>(0, sample.chunk->media[c].length[static_cast<size_t>(sample.row)]);
      }
    }
    batch->columns.push_back(std::move(out));
  }
  MemoryBudget::Grant grant;
  HEADRACE_TRY(Hold(pending, sizes, downloads, &grant));
  size_t next = 0;
  for (auto& column : batch->columns) {
    if (column.kind == ColumnKind::kImage || column.kind == ColumnKind::kTensor)
      column.data = grant.buffers[next++];
  }
  (keeps ? batch->downloads : pending->downloads) = std::move(grant.extra);
  return Status::Ok();
}

Status Pipeline::Hold(const PendingPtr& pending, const std::vector<int64_t>& sizes, int64_t extra,
                      MemoryBudget::Grant* grant) {
  int64_t need = extra;
  for (const int64_t size : sizes) need += size;
  const auto megabytes = [](int64_t bytes) { return std::to_string((bytes + 999'999) / 1'000'000) + " MB"; };
  const int64_t limit = in_.memory->limit();
  if (need > limit) {
    return Status::Limit("a batch of " + std::to_string(pending->rows) + " rows needs " + megabytes(need) +
                         " of memory, and the budget is " + megabytes(limit) + "; raise memory to at least " +
                         megabytes(2 * need) + " or make batches smaller");
  }
  double starved_since = -1;
  for (;;) {
    if (in_.memory->TakeWithin(kStarvedLookSeconds, stop_.token(), sizes, extra, grant)) return Status::Ok();
    const std::lock_guard lock(mutex_);
    if (Stopping()) return Status::Cancelled();
    // No batch is in progress that could release memory, and the consumer waits: only it holds any.
    const bool starved = consumer_waits_ && queue_.empty();
    if (!starved) {
      starved_since = -1;
    } else if (starved_since < 0) {
      starved_since = MonotonicSeconds();
    } else if (MonotonicSeconds() - starved_since > kStarvedSeconds) {
      return Status::Limit("the batches that are kept hold " + megabytes(in_.memory->used()) +
                           " of the memory budget of " + megabytes(limit) + ", and the next one needs " +
                           megabytes(need) + "; let go of them, copy what must stay, or raise memory");
    }
  }
}

Result<std::shared_ptr<const Batch>> Pipeline::Next(const std::function<bool()>& interrupted) {
  const double start = MonotonicSeconds();
  PendingPtr pending;
  {
    std::unique_lock lock(mutex_);
    if (!failed_.ok()) return failed_;
    consumer_waits_ = true;
    while (queue_.empty()) {
      if (changed_.wait_for(lock, kInterruptLook) == std::cv_status::timeout && interrupted) {
        lock.unlock();
        const bool stop = interrupted();
        lock.lock();
        if (stop) {
          consumer_waits_ = false;
          return Status::Cancelled();
        }
      }
    }
    pending = queue_.front();
  }
  while (pending->ready.wait_for(kInterruptLook) != std::future_status::ready) {
    if (interrupted && interrupted()) {
      const std::lock_guard lock(mutex_);
      consumer_waits_ = false;
      return Status::Cancelled();
    }
  }
  const Status status = pending->ready.get();
  {
    const std::lock_guard lock(mutex_);
    consumer_waits_ = false;
    queue_.pop_front();
    if (pending->epoch_end) {
      beyond_ = 0;
      for (const auto& next : queue_) beyond_ += next->epoch_end || beyond_ > 0 ? 1 : 0;
    }
    if (!status.ok()) failed_ = status;
  }
  changed_.notify_all();
  counters_->waited_us += MicrosSince(start);
  if (!status.ok()) return status;
  after_ = pending->batch->after;
  if (pending->epoch_end) return std::shared_ptr<const Batch>();
  counters_->batches += 1;
  for (const uint8_t valid : pending->batch->valid) counters_->samples += valid;
  return std::shared_ptr<const Batch>(std::move(pending->batch));
}

}  // namespace headrace::stream
