#include "stream/stream.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <numeric>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mapped_file.h"
#include "base/task_pool.h"
#include "stream/pipeline.h"
#include "table/table.h"

namespace headrace::stream {
namespace {

constexpr int64_t kMaxMemory = int64_t{4} << 30;
constexpr int64_t kMaxWeighted = 200'000'000;  // rows whose weights or lengths are held in memory

int64_t MachineMemory() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<int64_t>(sysconf(_SC_PAGESIZE));
}

Status Validate(const std::vector<StreamInput>& inputs, const StreamOptions& o) {
  const auto range = [](const char* name, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return Status::Ok();
    return Status::Invalid(std::string(name) + " is " + std::to_string(value) + "; it must be from " +
                           std::to_string(low) + " to " + std::to_string(high));
  };
  if (inputs.empty()) return Status::Invalid("a stream needs a table");
  HEADRACE_TRY(range("batch_size", o.batch, 1, 1 << 20));
  HEADRACE_TRY(range("world_size", o.world, 1, 1 << 20));
  HEADRACE_TRY(range("rank", o.rank, 0, o.world - 1));
  HEADRACE_TRY(range("local_world_size", o.local_world, 1, 1 << 16));
  HEADRACE_TRY(range("workers", o.workers, 1, 4096));
  HEADRACE_TRY(range("worker", o.worker, 0, o.workers - 1));
  HEADRACE_TRY(range("threads", o.threads, 0, 4096));
  HEADRACE_TRY(range("prefetch", o.prefetch, 0, 4096));
  HEADRACE_TRY(range("epochs", o.epochs, 0, std::numeric_limits<int64_t>::max()));
  HEADRACE_TRY(range("lanes", o.lanes, 0, 1 << 20));
  HEADRACE_TRY(range("block", o.block, 0, int64_t{1} << 40));
  HEADRACE_TRY(range("window", o.window, 0, std::numeric_limits<int64_t>::max() / 2));
  if (inputs.size() > 1 && o.mixture.empty())
    return Status::Invalid("several tables need a mixture's weights");
  if (!o.pack.tokens.empty()) {
    HEADRACE_TRY(range("the packed length", o.pack.length, 1, 1 << 24));
    HEADRACE_TRY(range("the packing window", o.pack.window, 0, 1 << 24));
    if (o.pack.lengths.empty() == !o.pack.tokenizer) {
      return Status::Invalid(o.pack.tokenizer
                                 ? "a stream that tokenizes counts tokens itself: give no column of lengths"
                                 : "packing plans from a column of lengths: name one (add it once with "
                                   "add_columns), or give a tokenizer for a column of texts");
    }
    if (o.end == EpochEnd::kWrap)
      return Status::Unsupported("packed streams pad, drop or shorten the last batch");
  }
  return Status::Ok();
}

// The same table at another version.
Result<table::View> AtVersion(const table::View& view, int64_t version) {
  std::string_view id = view.prefix();  // tables/<id>/
  id.remove_suffix(1);
  HEADRACE_ASSIGN(const Uuid uuid, Uuid::Parse(id.substr(id.rfind('/') + 1)));
  return table::Table(view.environment(), "the table", uuid).At(std::to_string(version));
}

// What is opened to iterate over given snapshots; replaced when a newer snapshot's epoch begins.
struct Pass {
  std::vector<std::shared_ptr<Source>> sources;
  std::vector<std::unique_ptr<BlockCache>> caches;
  std::vector<int64_t> cache_block;
  std::vector<std::shared_ptr<const std::vector<int32_t>>> lengths;
  std::unique_ptr<Sequence> sequence;
  std::vector<SourceState> states;
};

class StreamImpl final : public Stream {
 public:
  StreamImpl(std::vector<StreamInput> inputs, const StreamOptions& options)
      : inputs_(std::move(inputs)), options_(options) {
    if (options_.threads == 0) options_.threads = std::max(1, DefaultThreads() / options_.local_world);
    if (options_.memory_bytes <= 0) {
      options_.memory_bytes = std::min(kMaxMemory, MachineMemory() / 4) / options_.local_world;
    }
    memory_ = std::make_shared<MemoryBudget>(options_.memory_bytes - ChunkMemory());
    if (options_.pack.window == 0) options_.pack.window = options_.pack.tokenizer ? 1024 : 8192;
  }

  Status Start() {
    HEADRACE_ASSIGN(auto pass, OpenPass(Views(), options_.seed, {}));
    const State state = FreshState(*pass, {0, 0}, options_.seed);
    Activate(std::move(pass), state);
    return Status::Ok();
  }

  Result<std::shared_ptr<const Batch>> Next(const std::function<bool()>& interrupted) override {
    const std::lock_guard in_use(use_mutex_);  // callers in several threads take turns
    if (options_.epochs > 0 && state_.point.epoch >= options_.epochs) return std::shared_ptr<const Batch>();
    if (!pipeline_) {
      if (started_ < 0) started_ = MonotonicSeconds();
      PipelineInput input;
      input.sequence = active_->sequence.get();
      for (const auto& source : active_->sources) input.sources.push_back(source.get());
      for (const auto& cache : active_->caches) input.caches.push_back(cache.get());
      input.cache_block = active_->cache_block;
      input.lengths = active_->lengths;
      input.options = &options_;
      input.memory = memory_;
      input.start = state_;
      input.tears = tears_;
      for (const auto& source : active_->sources) input.files.push_back(source->view().prefix());
      for (const auto& cache : active_->caches) {
        if (cache) input.files.push_back(cache->folder());
      }
      pipeline_ = std::make_unique<Pipeline>(std::move(input), &counters_);
    }
    HEADRACE_ASSIGN(auto batch, pipeline_->Next(interrupted));
    SetState(pipeline_->after());
    if (!batch && next_) {  // the old snapshot's epoch is over; the newer one's begins
      pipeline_.reset();
      const State state = FreshState(*next_, state_.point, state_.seed);
      Activate(std::move(next_), state);
    }
    return batch;
  }

  State state() const override {
    const std::lock_guard lock(state_mutex_);
    return state_;
  }

  Status Load(const State& state) override {
    const std::lock_guard in_use(use_mutex_);
    const PackOptions& pack = options_.pack;
    const bool packs = !pack.tokens.empty();
    if (state.pack_length != (packs ? pack.length : 0) || state.pack_window != (packs ? pack.window : 0)) {
      return Status::Invalid(packs ? "this state_dict() is of a stream with another packing (length " +
                                         std::to_string(state.pack_length) + ", window " +
                                         std::to_string(state.pack_window) + ")"
                                   : "this state_dict() is of a stream that packs");
    }
    if (state.sources.size() != inputs_.size()) {
      return Status::Invalid("this state_dict() is of a stream over " + std::to_string(state.sources.size()) +
                             " tables, and this one is over " + std::to_string(inputs_.size()));
    }
    pipeline_.reset();
    std::vector<table::View> views;
    bool older = false;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const int64_t version = state.sources[i].version;
      if (version == inputs_[i].view.snapshot().version) {
        views.push_back(inputs_[i].view);
        continue;
      }
      auto view = AtVersion(inputs_[i].view, version);
      if (!view.ok())
        return view.status().Wrap("the epoch to finish is of version " + std::to_string(version));
      views.push_back(std::move(view).value());
      older = true;
    }
    const bool at_start = state.point.position == 0 && state.packed == 0;
    if (older && at_start) {  // a new epoch: the newer snapshot's from its first row
      HEADRACE_ASSIGN(auto fresh, OpenPass(Views(), state.seed, {}));
      next_.reset();
      const State begin = FreshState(*fresh, state.point, state.seed);
      Activate(std::move(fresh), begin);
      return Status::Ok();
    }
    HEADRACE_ASSIGN(auto pass, OpenPass(views, state.seed, state.sources));
    const auto length = pass->sequence->length();
    if (length && state.point.position > *length) {
      return Status::Invalid("this state_dict() stands at position " + std::to_string(state.point.position) +
                             " of an epoch of " + std::to_string(*length));
    }
    next_.reset();
    if (older) {
      HEADRACE_ASSIGN(next_, OpenPass(Views(), state.seed, {}));
    }
    Activate(std::move(pass), state);
    return Status::Ok();
  }

  StreamStats stats() const override {
    StreamStats s;
    const auto active = Now().pass;
    s.samples = counters_.samples;
    s.batches = counters_.batches;
    const double started = started_;
    s.seconds = started < 0 ? 0 : MonotonicSeconds() - started;
    s.waited_seconds = static_cast<double>(counters_.waited_us) / 1e6;
    s.decode_seconds = static_cast<double>(counters_.decode_us) / 1e6;
    s.fetch_seconds = static_cast<double>(counters_.fetch_us) / 1e6;
    s.threads = options_.threads;
    s.batch_bytes = counters_.batch_bytes;
    s.packed_tokens = counters_.packed_tokens;
    s.packed_slots = counters_.packed_slots;
    for (const auto& source : active->sources) {
      s.media_bytes += source->media_read();
      s.chunk_hits += source->chunk_hits();
      s.chunk_misses += source->chunk_misses();
    }
    for (const auto& cache : active->caches) {
      if (!cache) continue;
      s.cache_hits += cache->hit_bytes();
      s.cache_misses += cache->miss_bytes();
    }
    {
      const std::lock_guard lock(counters_.mutex);
      s.bad = counters_.bad;
      s.bad_rows = counters_.bad_rows;
    }
    s.memory_bytes = memory_->used();
    s.memory_peak = memory_->peak();
    // A consumer that waits less than a twentieth of the time is what holds the speed.
    const double elapsed = std::max(s.seconds, 1e-9);
    if (s.batches > 0) {
      if (s.waited_seconds < 0.05 * elapsed) {
        s.bottleneck = "consumer";
      } else {
        const bool local = active->sources[0]->local();
        s.bottleneck = local || s.decode_seconds > 0.7 * elapsed * s.threads ? "decode" : "store";
      }
    }
    return s;
  }

  int64_t length() const override { return Now().pass->sequence->length().value_or(-1); }

  int64_t steps_left() const override { return StepsFrom(Now().state.point.position); }
  int64_t steps_of_epoch() const override { return StepsFrom(0); }

  Result<std::vector<PlannedSample>> Plan(int64_t count) const override {
    std::vector<PlannedSample> planned;
    const Standing now = Now();
    const auto length = now.pass->sequence->length();
    for (int64_t k = 0; k < count; ++k) {
      Point point{now.state.point.epoch, now.state.point.position + k};
      if (length && point.position >= *length) break;
      const auto place = now.pass->sequence->At(point);
      Selection& selection = now.pass->sources[static_cast<size_t>(place.source)]->selection();
      HEADRACE_ASSIGN(const RowPlace row, selection.At(place.ordinal));
      HEADRACE_ASSIGN(const int64_t id, selection.RowIdAt(row));
      planned.push_back({point, place.source, place.ordinal, id});
    }
    return planned;
  }

  std::vector<Column> columns() const override { return Now().pass->sources[0]->columns(); }
  const StreamOptions& options() const override { return options_; }

 private:
  int64_t StepsFrom(int64_t position) const {
    const auto length = Now().pass->sequence->length();
    if (!length || options_.end == EpochEnd::kWrap || !options_.pack.tokens.empty()) return -1;
    return StepsLeft({options_.batch, options_.rank, options_.world, options_.end}, position, *length);
  }

  int64_t ChunkMemory() const { return options_.memory_bytes / 4; }

  std::vector<table::View> Views() const {
    std::vector<table::View> views;
    for (const auto& input : inputs_) views.push_back(input.view);
    return views;
  }

  // Where the stream stands. Anybody may ask while another thread is in Next() or Load(), which replace it:
  // what is asked about stays alive.
  struct Standing {
    std::shared_ptr<Pass> pass;
    State state;
  };
  Standing Now() const {
    const std::lock_guard lock(state_mutex_);
    return {active_, state_};
  }
  void Activate(std::shared_ptr<Pass> pass, const State& state) {
    const std::lock_guard lock(state_mutex_);
    active_.swap(pass);
    state_ = state;
  }
  void SetState(State state) {
    const std::lock_guard lock(state_mutex_);
    state_ = std::move(state);
  }

  State FreshState(const Pass& pass, const Point& point, uint64_t seed) const {
    State state;
    if (!options_.pack.tokens.empty()) {
      state.pack_length = options_.pack.length;
      state.pack_window = options_.pack.window;
    }
    state.seed = seed;
    state.point = point;
    state.sources = pass.states;
    return state;
  }

  Layout LayoutOf(const Source& source) const {
    LayoutHints hints;
    hints.rows = source.selection().rows();
    hints.media_bytes = source.media_bytes();
    hints.page_bytes = source.page_bytes();
    hints.page_rows = source.chunk_rows();
    hints.local = source.local();
    hints.sources = static_cast<int>(inputs_.size());
    hints.world = options_.world;
    hints.window = options_.window;
    hints.shuffle = options_.shuffle;
    Layout layout = ChooseLayout(hints);
    if (options_.block > 0) layout.block = options_.block;
    if (options_.lanes > 0) layout.lanes = options_.lanes;
    if (options_.window > 0) layout.window = options_.window;
    layout.window = (layout.window + layout.lanes - 1) / layout.lanes * layout.lanes;
    return layout;
  }

  // `recorded`: of a checkpoint; empty for a fresh start.
  Result<std::unique_ptr<Pass>> OpenPass(const std::vector<table::View>& views, uint64_t seed,
                                         const std::vector<SourceState>& recorded) {
    auto pass = std::make_unique<Pass>();
    std::vector<SequencePart> parts;
    std::vector<int64_t> rows;
    for (size_t i = 0; i < views.size(); ++i) {
      SourceOptions options;
      options.columns = options_.columns;
      options.images = options_.images;
      options.where = inputs_[i].where;
      options.chunk_memory = ChunkMemory() / static_cast<int64_t>(views.size());
      options.share = options_.rank;
      options.shares = options_.world;
      options.stop = options_.stop;
      options.progress = options_.progress;
      if (!options_.pack.tokens.empty()) options.columns = {options_.pack.tokens};
      HEADRACE_ASSIGN(auto source, Source::Open(views[i], options));
      if (i > 0) HEADRACE_TRY(SameColumns(*pass->sources[0], *source, i));
      SequencePart part;
      part.layout = LayoutOf(*source);
      uint64_t selection = source->selection().hash();
      if (options_.pack.tokenizer) selection ^= options_.pack.tokenizer->hash();
      SourceState state{views[i].snapshot().version, static_cast<uint32_t>(selection), part.layout};
      if (!recorded.empty()) {
        const SourceState& old = recorded[i];
        if (old.selection != state.selection || old.layout.rows != state.layout.rows) {
          return Status::Invalid(
              "this state_dict() is of another selection: another filter, tokenizer or table (" +
              std::to_string(old.layout.rows) + " rows then, " + std::to_string(state.layout.rows) + " now)");
        }
        part.layout = old.layout;
        state = old;
      }
      HEADRACE_TRY(AddNumbers(*source, &part, pass.get()));
      rows.push_back(part.layout.rows);
      HEADRACE_TRY(AddCache(views[i], *source, part.layout, pass.get()));
      parts.push_back(std::move(part));
      pass->states.push_back(state);
      pass->sources.push_back(std::move(source));
    }
    std::shared_ptr<const Mixture> mixture;
    if (!options_.mixture.empty()) {
      HEADRACE_ASSIGN(auto made, Mixture::Make(options_.mixture, rows, options_.exhaust));
      mixture = std::make_shared<const Mixture>(std::move(made));
    }
    pass->sequence = std::make_unique<Sequence>(std::move(parts), std::move(mixture), seed);
    if (!pass->sequence->length() && options_.end == EpochEnd::kDrop) {
      return Status::Invalid("a mixture that repeats for ever has no last batch to drop");
    }
    return pass;
  }

  Status SameColumns(const Source& first, const Source& other, size_t index) const {
    for (size_t c = 0; c < first.columns().size(); ++c) {
      const Column& a = first.columns()[c];
      if (c < other.columns().size()) {
        const Column& b = other.columns()[c];
        const bool same = a.name == b.name && a.kind == b.kind && a.dtype == b.dtype && a.shape == b.shape &&
                          a.projection.leaf.type.ToString() == b.projection.leaf.type.ToString();
        if (same) continue;
      }
      return Status::Invalid("the tables of a mixture must have the same columns: '" + a.name +
                             "' of the first and of table " + std::to_string(index) +
                             " differ in name or type");
    }
    return Status::Ok();
  }

  Status CheckTexts(const Source& source) const {
    const table::Type& type = source.columns()[0].projection.leaf.type;
    if (type.kind == table::Kind::kString) return Status::Ok();
    return Status::Invalid("a tokenizer reads texts, and '" + options_.pack.tokens + "' is " +
                           type.ToString());
  }

  Status AddNumbers(const Source& source, SequencePart* part, Pass* pass) const {
    const std::string& lengths = options_.pack.lengths;
    const bool packs = !options_.pack.tokens.empty();
    if (packs && options_.pack.tokenizer) HEADRACE_TRY(CheckTexts(source));
    const bool counts = packs && !options_.pack.tokenizer;
    if (options_.weights.empty() && !counts) return Status::Ok();
    if (part->layout.rows > kMaxWeighted) {
      return Status::Limit("weights and packing hold a number per row in memory, and " +
                           std::to_string(part->layout.rows) + " rows are more than " +
                           std::to_string(kMaxWeighted));
    }
    if (!options_.weights.empty()) {
      HEADRACE_ASSIGN(const auto weights, source.ReadNumbers(options_.weights, options_.stop));
      HEADRACE_ASSIGN(auto cumulative, CumulativeWeights(weights));
      part->weights = std::make_shared<const std::vector<double>>(std::move(cumulative));
    }
    if (!counts) return Status::Ok();
    const Column& tokens = source.columns()[0];
    const table::Type& type = tokens.projection.leaf.type;
    const bool list = type.kind == table::Kind::kList && type.children[0].type.kind >= table::Kind::kInt8 &&
                      type.children[0].type.kind <= table::Kind::kUInt64;
    if (!list) {
      return Status::Invalid("packing needs lists of whole numbers, and '" + options_.pack.tokens + "' is " +
                             type.ToString());
    }
    HEADRACE_ASSIGN(const auto numbers, source.ReadNumbers(lengths, options_.stop));
    auto whole = std::make_shared<std::vector<int32_t>>();
    whole->reserve(numbers.size());
    for (const double n : numbers) {
      if (!(n >= 0) || n > static_cast<double>(std::numeric_limits<int32_t>::max()) ||
          n != static_cast<double>(static_cast<int64_t>(n))) {
        return Status::Invalid("the column '" + lengths + "' holds " + std::to_string(n) +
                               ", which is no length");
      }
      whole->push_back(static_cast<int32_t>(n));
    }
    pass->lengths.push_back(std::move(whole));
    return Status::Ok();
  }

  Status AddCache(const table::View& view, const Source& source, const Layout& layout, Pass* pass) const {
    int64_t block = layout.block;
    if (!layout.shuffle && source.media_bytes() > 0) {
      block = std::clamp<int64_t>(static_cast<int64_t>((1 << 20) / source.media_bytes()), 1, 2048);
    }
    pass->cache_block.push_back(block);
    pass->caches.push_back(nullptr);
    if (options_.cache.empty() || options_.cache_bytes <= 0 || source.local()) return Status::Ok();
    std::string what = view.environment()->store->Describe() + view.prefix() +
                       std::to_string(view.snapshot().version) + ":" + source.selection().canonical() + ":" +
                       std::to_string(block);
    for (const auto& column : source.columns()) {
      if (column.is_media()) what += ":" + column.name;
    }
    const double expected = source.media_bytes() * static_cast<double>(layout.rows);
    HEADRACE_ASSIGN(pass->caches.back(), BlockCache::Open(options_.cache, options_.cache_bytes, Xxh3(what),
                                                          (layout.rows + block - 1) / block, expected));
    return Status::Ok();
  }

  std::vector<StreamInput> inputs_;
  StreamOptions options_;
  std::shared_ptr<MemoryBudget> memory_;
  mutable Counters counters_;
  std::shared_ptr<Pass> active_;  // replaced by Activate(); asked for, outside Next() and Load(), by Now()
  std::unique_ptr<Pass> next_;
  std::mutex use_mutex_;
  mutable std::mutex state_mutex_;
  State state_;
  const int64_t tears_ = MappedFile::tears();  // of files that were cut off
  std::atomic<double> started_ = -1;
  std::unique_ptr<Pipeline> pipeline_;  // last: it borrows all the others
};

}  // namespace

Result<std::unique_ptr<Stream>> Stream::Open(std::vector<StreamInput> inputs, const StreamOptions& options) {
  HEADRACE_TRY(Validate(inputs, options));
  auto stream = std::make_unique<StreamImpl>(std::move(inputs), options);
  HEADRACE_TRY(stream->Start());
  return std::unique_ptr<Stream>(std::move(stream));
}

}  // namespace headrace::stream
