#include "stream/pipeline.h"

#include <arrow/array.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <tuple>

#include "base/clock.h"
#include "base/limits.h"
#include "stream/packing.h"
#include "stream/pipeline_work.h"

namespace headrace::stream {
namespace {

constexpr int kRequestThreads = 32;
constexpr size_t kChunkLookahead = 4;    // batches whose pages are asked for early, on distant stores
constexpr size_t kBeyond = 2;            // batches of the next epoch that are made in this one
constexpr double kStarvedSeconds = 0.5;  // a caller holds all memory and waits for more

int64_t MicrosSince(double start) { return static_cast<int64_t>((MonotonicSeconds() - start) * 1e6); }

bool IsOutage(const Status& status) { return status.Is(Code::kUnavailable) || status.Is(Code::kTimeout); }

bool IsMedia(const Column& column) {
  return column.kind == ColumnKind::kImage || column.kind == ColumnKind::kBlob;
}

}  // namespace

Pipeline::Pipeline(PipelineInput input, Counters* counters)
    : in_(std::move(input)), counters_(counters), at_(in_.start), after_(in_.start) {
  const StreamOptions& options = *in_.options;
  steps_ = {options.batch, options.rank, options.world, options.end};
  for (const Source* source : in_.sources) remote_ |= !source->local();
  ahead_ = options.prefetch > 0 ? static_cast<size_t>(options.prefetch) : remote_ ? 16 : 4;
  decoders_ = std::make_unique<TaskPool>(options.threads > 0 ? options.threads : DefaultThreads());
  if (remote_) requests_ = std::make_unique<TaskPool>(kRequestThreads);
  planner_ = std::thread([this] { Plan(); });
}

Pipeline::~Pipeline() {
  stopping_ = true;
  changed_.notify_all();
  planner_.join();
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
    for (const double until = MonotonicSeconds() + pause; MonotonicSeconds() < until;) {
      if (Stopping()) return Status::Cancelled();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    pause = std::min(2.0, pause * 2);
  }
}

// ---------------------------------------------------------------- planning

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
    const WorkPtr work = std::move(located_.front());
    located_.pop_front();
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return MayQueue() || Stopping(); });
    }
    if (Stopping()) break;
    if (!work->epoch_end) {
      Status ready = LoadChunks(work.get());
      if (ready.ok()) ready = Reserve(work);
      if (!ready.ok()) {
        status = ready;
        located_.clear();
        break;
      }
    }
    {
      const std::lock_guard lock(mutex_);
      if (work->epoch_end || beyond_ > 0) ++beyond_;
      queue_.push_back(work);
    }
    changed_.notify_all();
    Start(work);
  }
  if (status.ok()) return;
  for (const auto& work : located_) {  // steps before the one that failed
    if (!work->epoch_end && !(LoadChunks(work.get()).ok() && Reserve(work).ok())) break;
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(work);
    }
    Start(work);
  }
  auto last = std::make_shared<Work>();
  last->done.set_value(status);
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(last));
  changed_.notify_all();
}

// Few batches of the next epoch are made before this one is over: whoever stops here has not paid for them.
bool Pipeline::MayQueue() const { return queue_.size() < ahead_ && beyond_ <= kBeyond; }

Result<Pipeline::WorkPtr> Pipeline::PlanStep() {
  const StreamOptions& options = *in_.options;
  for (;;) {
    auto work = std::make_shared<Work>();
    const auto step = StepAt(steps_, at_.point, in_.sequence->length());
    if (!step) {
      at_.point = {at_.point.epoch + 1, 0};
      step_number_ = 0;
      work->epoch_end = true;
      work->batch->after = at_;
      return work;
    }
    at_.point = step->after;
    if (step_number_++ % options.workers != options.worker) continue;
    work->batch->after = at_;
    HEADRACE_TRY(Persist([&] { return Locate(work.get(), step->points); }));
    const bool fill = options.end != EpochEnd::kShort;
    work->rows = fill ? options.batch : static_cast<int64_t>(step->points.size());
    work->samples.resize(static_cast<size_t>(work->rows));
    return work;
  }
}

Status Pipeline::Locate(Work* work, const std::vector<Point>& points) {
  work->samples.clear();
  work->samples.reserve(points.size());
  std::set<std::tuple<int, int32_t, int32_t>> asked;
  for (const Point& point : points) {
    Sample sample;
    const auto place = in_.sequence->At(point);
    Source* source = in_.sources[static_cast<size_t>(place.source)];
    sample.point = point;
    sample.source = place.source;
    sample.ordinal = place.ordinal;
    HEADRACE_ASSIGN(sample.place, source->selection().At(place.ordinal));
    sample.row_id = source->selection().row_id(sample.place);
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
    work->samples.push_back(std::move(sample));
  }
  return Status::Ok();
}

Status Pipeline::LoadChunks(Work* work) {
  for (auto& sample : work->samples) {
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
Status Pipeline::Reserve(const WorkPtr& work) {
  const auto& columns = in_.sources[0]->columns();
  const bool packed = !in_.options->pack.tokens.empty();
  Batch* batch = work->batch.get();
  batch->rows = work->rows;
  if (packed) return ReservePacked(work);
  std::vector<int64_t> sizes;
  int64_t downloads = 0;
  bool keeps = false;
  for (size_t c = 0; c < columns.size(); ++c) {
    const Column& column = columns[c];
    BatchColumn out{column.name, column.kind, column.dtype, {}, nullptr, {}, nullptr};
    if (column.kind == ColumnKind::kImage || column.kind == ColumnKind::kTensor) {
      sizes.push_back(work->rows * column.row_bytes);
      out.shape.push_back(work->rows);
      out.shape.insert(out.shape.end(), column.shape.begin(), column.shape.end());
    }
    if (column.kind == ColumnKind::kBlob) {
      out.blobs.resize(static_cast<size_t>(work->rows));
      keeps = true;
    }
    if (IsMedia(column)) {
      for (const auto& sample : work->samples) {
        if (!sample.wanted || in_.sources[static_cast<size_t>(sample.source)]->local()) continue;
        downloads += std::max<int64_t>(0, sample.chunk->media[c].length[static_cast<size_t>(sample.row)]);
      }
    }
    batch->columns.push_back(std::move(out));
  }
  MemoryBudget::Grant grant;
  HEADRACE_TRY(Hold(work, sizes, downloads, &grant));
  size_t next = 0;
  for (auto& column : batch->columns) {
    if (column.kind == ColumnKind::kImage || column.kind == ColumnKind::kTensor)
      column.data = grant.buffers[next++];
  }
  (keeps ? batch->downloads : work->downloads) = std::move(grant.extra);
  return Status::Ok();
}

Status Pipeline::Hold(const WorkPtr& work, const std::vector<int64_t>& sizes, int64_t extra,
                      MemoryBudget::Grant* grant) {
  int64_t need = extra;
  for (const int64_t size : sizes) need += size;
  const auto megabytes = [](int64_t bytes) { return std::to_string((bytes + 999'999) / 1'000'000) + " MB"; };
  const int64_t limit = in_.memory->limit();
  if (need > limit) {
    return Status::Limit("a batch of " + std::to_string(work->rows) + " rows needs " + megabytes(need) +
                         " of memory, and the budget is " + megabytes(limit) + "; raise memory to at least " +
                         megabytes(2 * need) + " or make batches smaller");
  }
  double starved_since = -1;
  for (;;) {
    if (in_.memory->Take(sizes, extra, grant)) return Status::Ok();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(2), [&] { return Stopping(); });
    if (Stopping()) return Status::Cancelled();
    // Nothing is under way that could give memory back, and the consumer waits: only it could.
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

// ---------------------------------------------------------------- fetching

void Pipeline::Start(const WorkPtr& work) {
  if (work->epoch_end) {
    work->done.set_value(Status::Ok());
    return;
  }
  if (remote_) {
    Fetch(work);
  } else {
    Decode(work);
  }
}

// Requests for a batch, near ones together: cached blocks, media by pack, tensors by fragment.
void Pipeline::Fetch(const WorkPtr& work) {
  const auto& columns = in_.sources[0]->columns();
  std::map<std::pair<int, int64_t>, Cells> blocks;
  std::map<const store::ObjectReader*, Cells> packs;
  std::map<std::tuple<size_t, int, int32_t>, std::vector<size_t>> rows;
  for (size_t i = 0; i < work->samples.size(); ++i) {
    Sample& sample = work->samples[i];
    const auto source = static_cast<size_t>(sample.source);
    if (!sample.wanted || in_.sources[source]->local()) continue;
    sample.media.assign(columns.size(), Result<std::optional<store::Bytes>>(std::nullopt));
    sample.by_row.resize(columns.size());
    for (size_t c = 0; c < columns.size(); ++c) {
      if (columns[c].by_row) {
        rows[{c, sample.source, sample.place.fragment}].push_back(i);
      } else if (IsMedia(columns[c])) {
        const BlockCache* cache = in_.caches[source];
        const int64_t block = sample.ordinal / in_.cache_block[source];
        const MediaCells& media = sample.chunk->media[c];
        const int32_t pack = media.pack[static_cast<size_t>(sample.row)];
        if (cache != nullptr && cache->Keeps(block)) {
          blocks[{sample.source, block}].emplace_back(i, c);
        } else {
          packs[pack >= 0 ? media.packs[static_cast<size_t>(pack)].get() : nullptr].emplace_back(i, c);
        }
      }
    }
  }
  work->pending = static_cast<int>(blocks.size() + packs.size() + rows.size());
  if (work->pending == 0) return Decode(work);
  const auto submit = [&](auto run) {
    requests_->Submit([this, work, run = std::move(run)] {
      const double start = MonotonicSeconds();
      if (!Stopping()) run();
      counters_->fetch_us += MicrosSince(start);
      if (work->pending.fetch_sub(1) == 1) Decode(work);
    });
  };
  for (auto& [key, cells] : blocks)
    submit([this, work, at = key, mine = std::move(cells)] { FetchBlock(work, at.first, at.second, mine); });
  for (auto& [pack, cells] : packs) submit([this, work, mine = std::move(cells)] { FetchCells(work, mine); });
  for (auto& [key, members] : rows)
    submit([this, work, at = key, mine = std::move(members)] {
      FetchRows(work, std::get<0>(at), std::get<1>(at), std::get<2>(at), mine);
    });
}

void Pipeline::FetchCells(const WorkPtr& work, Cells cells) {
  const Status status = Persist([&]() -> Status {
    std::vector<Source::Cell> wanted;
    for (const auto& [i, c] : cells)
      wanted.push_back({work->samples[i].chunk.get(), c, work->samples[i].row});
    const Source* source = in_.sources[static_cast<size_t>(work->samples[cells[0].first].source)];
    auto results = source->ReadMediaMany(wanted);
    Status away;
    Cells again;
    for (size_t k = 0; k < cells.size(); ++k) {
      if (IsOutage(results[k].status())) {
        away = results[k].status();
        again.push_back(cells[k]);
      }
      work->samples[cells[k].first].media[cells[k].second] = std::move(results[k]);
    }
    cells = std::move(again);
    return away;
  });
  if (!status.ok()) work->Fail(status);
}

void Pipeline::FetchBlock(const WorkPtr& work, int source_index, int64_t block, const Cells& cells) {
  const auto source = static_cast<size_t>(source_index);
  const int64_t size = in_.cache_block[source];
  store::Bytes bytes;
  const Status status = Persist([&]() -> Status {
    HEADRACE_ASSIGN(bytes, in_.caches[source]->Get(
                               block, [&] { return FetchWholeBlock(in_.sources[source], block, size); }));
    return Status::Ok();
  });
  const auto& columns = in_.sources[source]->columns();
  for (const auto& [i, c] : cells) {
    Sample& sample = work->samples[i];
    if (!status.ok()) {
      work->Fail(status);
      return;
    }
    sample.media[c] =
        CellOfBlock(bytes, columns, sample.ordinal - block * size, c, *sample.chunk, sample.row);
  }
}

void Pipeline::FetchRows(const WorkPtr& work, size_t column, int source, int32_t fragment,
                         std::vector<size_t> members) {
  std::sort(members.begin(), members.end(),
            [&](size_t a, size_t b) { return work->samples[a].place.row < work->samples[b].place.row; });
  std::vector<int64_t> rows;
  for (const size_t i : members) rows.push_back(work->samples[i].place.row);
  std::shared_ptr<arrow::Array> values;
  const Status status = Persist([&]() -> Status {
    HEADRACE_ASSIGN(values, in_.sources[static_cast<size_t>(source)]->ReadRows(column, fragment, rows));
    return Status::Ok();
  });
  for (size_t k = 0; k < members.size(); ++k) {
    Sample& sample = work->samples[members[k]];
    if (status.ok()) {
      sample.by_row[column] = values->Slice(static_cast<int64_t>(k), 1);
    } else {
      work->Fail(status);
    }
  }
}

// ---------------------------------------------------------------- decoding

void Pipeline::Decode(const WorkPtr& work) {
  const auto& columns = in_.sources[0]->columns();
  const bool images = std::any_of(columns.begin(), columns.end(),
                                  [](const Column& column) { return column.kind == ColumnKind::kImage; });
  if (!images || work->packed) {
    work->pending = 1;
    decoders_->Submit([this, work] {
      const double start = MonotonicSeconds();
      for (size_t i = 0; i < work->samples.size() && !Stopping(); ++i) {
        if (work->packed) continue;
        DecodeSample(work.get(), i);
      }
      if (!Stopping()) FinishWork(work.get());
      counters_->decode_us += MicrosSince(start);
    });
    return;
  }
  work->pending = static_cast<int>(work->samples.size());
  for (size_t i = 0; i < work->samples.size(); ++i) {
    decoders_->Submit([this, work, i] {
      const double start = MonotonicSeconds();
      if (!Stopping()) DecodeSample(work.get(), i);
      if (work->pending.fetch_sub(1) == 1 && !Stopping()) FinishWork(work.get());
      counters_->decode_us += MicrosSince(start);
    });
  }
}

void Pipeline::DecodeSample(Work* work, size_t index) {
  Sample& sample = work->samples[index];
  if (!sample.wanted) return;
  sample.bad = Fill(work, index);
  if (sample.bad.ok()) return;
  if (IsOutage(sample.bad) || sample.bad.Is(Code::kCancelled)) {
    work->Fail(sample.bad);
    return;
  }
  ReportBad(sample);
  if (in_.options->on_error == OnError::kSubstitute) sample.bad = Substitute(work, index);
}

Result<std::optional<store::Bytes>> Pipeline::MediaOf(Sample* sample, size_t column) {
  if (column < sample->media.size()) return std::move(sample->media[column]);
  Result<std::optional<store::Bytes>> bytes(std::nullopt);
  HEADRACE_TRY(Persist([&]() -> Status {
    bytes = in_.sources[static_cast<size_t>(sample->source)]->ReadMedia(*sample->chunk, column, sample->row);
    return IsOutage(bytes.status()) ? bytes.status() : Status::Ok();
  }));
  return bytes;
}

Status Pipeline::Fill(Work* work, size_t index) {
  Sample& sample = work->samples[index];
  const auto& columns = in_.sources[static_cast<size_t>(sample.source)]->columns();
  thread_local media::Scratch scratch;
  thread_local media::Canvas canvas;
  for (size_t c = 0; c < columns.size(); ++c) {
    const Column& column = columns[c];
    BatchColumn& out = work->batch->columns[c];
    Status status;
    if (column.kind == ColumnKind::kTensor) {
      const bool by_row = c < sample.by_row.size() && sample.by_row[c];
      if (column.by_row && !by_row) continue;  // its request failed, and said so
      const arrow::Array& values = by_row ? *sample.by_row[c] : *sample.chunk->values[c];
      status = CopyTensor(column, values, by_row ? 0 : sample.row,
                          out.data->data() + static_cast<int64_t>(index) * column.row_bytes);
    } else if (IsMedia(column)) {
      auto bytes = MediaOf(&sample, c);
      if (!bytes.ok()) {
        status = bytes.status();
      } else if (column.kind == ColumnKind::kBlob) {
        out.blobs[index] = std::move(bytes).value();
      } else if (!bytes->has_value()) {
        status = Status::Invalid("it is null; add \"" + column.name + " is not null\" to the filter");
      } else {
        media::ImageFacts facts = sample.chunk->media[c].facts[static_cast<size_t>(sample.row)];
        if (facts.width <= 0 || facts.height <= 0) {
          auto probed = media::ProbeImage((*bytes)->view());
          if (probed.ok()) {
            facts = *probed;
          } else {
            status = probed.status();
          }
        }
        if (status.ok()) {
          const uint64_t key = Derive(in_.sequence->DrawKey(sample.point), column.name_hash);
          status = column.ops.Run((*bytes)->view(), facts, key, &scratch, &canvas,
                                  out.data->data() + static_cast<int64_t>(index) * column.row_bytes);
        }
      }
    }
    if (!status.ok()) return status.Wrap("column '" + column.name + "'");
  }
  return Status::Ok();
}

// Another row in a bad one's place: chosen by the position alone, so that every run chooses the same.
Status Pipeline::Substitute(Work* work, size_t index) {
  Sample& sample = work->samples[index];
  Source* source = in_.sources[static_cast<size_t>(sample.source)];
  Draws draws(Derive(in_.sequence->DrawKey(sample.point), 1 << 20));
  Status status = sample.bad;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const auto n = static_cast<uint64_t>(source->selection().rows());
    sample.ordinal = static_cast<int64_t>(draws.Next() % n);
    HEADRACE_ASSIGN(sample.place, source->selection().At(sample.ordinal));
    HEADRACE_ASSIGN(sample.chunk, source->ChunkOf(sample.place));
    sample.row = Source::ChunkRow(*sample.chunk, sample.place);
    sample.row_id = source->selection().row_id(sample.place);
    sample.media.clear();
    sample.by_row.clear();
    for (size_t c = 0; c < source->columns().size(); ++c) {
      if (!source->columns()[c].by_row) continue;
      sample.by_row.resize(source->columns().size());
      HEADRACE_ASSIGN(sample.by_row[c], source->ReadRows(c, sample.place.fragment, {sample.place.row}));
    }
    status = Fill(work, index);
    if (status.ok()) return status;
  }
  return status.Wrap("ten substitutes were bad as well; the last");
}

void Pipeline::ReportBad(const Sample& sample) {
  const std::lock_guard lock(counters_->mutex);
  counters_->bad += 1;
  if (counters_->bad_rows.size() < 100)
    counters_->bad_rows.emplace_back(sample.row_id, sample.bad.ToString());
}

// The last one to finish a batch fills in what is left.
void Pipeline::FinishWork(Work* work) {
  Status status = work->failure();
  if (status.ok()) status = work->packed ? Pack(work) : Collect(work);
  work->samples.clear();
  work->downloads.reset();
  work->done.set_value(status);
}

Status Pipeline::Collect(Work* work) {
  Batch* batch = work->batch.get();
  const auto& columns = in_.sources[0]->columns();
  int64_t bytes = 0;
  for (auto& sample : work->samples) {
    if (!sample.bad.ok() && in_.options->on_error != OnError::kMask) {
      return sample.bad.Wrap("row " + std::to_string(sample.row_id) + " (epoch " +
                             std::to_string(sample.point.epoch) + ", position " +
                             std::to_string(sample.point.position) + ")");
    }
    const bool valid = sample.wanted && sample.bad.ok();
    batch->valid.push_back(valid ? 1 : 0);
    batch->epoch.push_back(sample.wanted ? sample.point.epoch : -1);
    batch->position.push_back(sample.wanted ? sample.point.position : -1);
    batch->row_id.push_back(sample.row_id);
    if (in_.sources.size() > 1) batch->source.push_back(sample.wanted ? sample.source : -1);
  }
  for (size_t c = 0; c < columns.size(); ++c) {
    BatchColumn& out = batch->columns[c];
    if (columns[c].kind == ColumnKind::kValues) {
      HEADRACE_ASSIGN(out.values, GatherValues(columns[c], c, work->samples));
    }
    if (out.data) bytes += out.data->size();
    for (size_t i = 0; i < work->samples.size(); ++i) {
      if (columns[c].kind == ColumnKind::kBlob && out.blobs[i]) bytes += out.blobs[i]->size();
      if (batch->valid[i] != 0) continue;
      if (out.data)
        std::memset(out.data->data() + static_cast<int64_t>(i) * columns[c].row_bytes, 0,
                    static_cast<size_t>(columns[c].row_bytes));
      if (columns[c].kind == ColumnKind::kBlob) out.blobs[i].reset();
    }
  }
  counters_->batch_bytes += bytes;
  return Status::Ok();
}

// ---------------------------------------------------------------- handing over

Result<std::shared_ptr<const Batch>> Pipeline::Next(const std::function<bool()>& interrupted) {
  const double start = MonotonicSeconds();
  WorkPtr work;
  {
    std::unique_lock lock(mutex_);
    if (!failed_.ok()) return failed_;
    consumer_waits_ = true;
    while (queue_.empty()) {
      if (changed_.wait_for(lock, std::chrono::milliseconds(50)) == std::cv_status::timeout && interrupted) {
        lock.unlock();
        const bool stop = interrupted();
        lock.lock();
        if (stop) {
          consumer_waits_ = false;
          return Status::Cancelled();
        }
      }
    }
    work = queue_.front();
  }
  while (work->ready.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
    if (interrupted && interrupted()) {
      const std::lock_guard lock(mutex_);
      consumer_waits_ = false;
      return Status::Cancelled();
    }
  }
  const Status status = work->ready.get();
  {
    const std::lock_guard lock(mutex_);
    consumer_waits_ = false;
    queue_.pop_front();
    if (work->epoch_end) {
      beyond_ = 0;
      for (const auto& next : queue_) beyond_ += next->epoch_end || beyond_ > 0 ? 1 : 0;
    }
    if (!status.ok()) failed_ = status;
  }
  changed_.notify_all();
  counters_->waited_us += MicrosSince(start);
  if (!status.ok()) return status;
  after_ = work->batch->after;
  if (work->epoch_end) return std::shared_ptr<const Batch>();
  counters_->batches += 1;
  for (const uint8_t valid : work->batch->valid) counters_->samples += valid;
  return std::shared_ptr<const Batch>(std::move(work->batch));
}

}  // namespace headrace::stream
