// stream: measures the throughput of the input pipeline without a GPU.
#include <cstdio>

#include "base/byte_size.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "stream/stream.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;
using stream::StreamStats;

struct StreamWords {
  std::string table;
  std::string where;
  int64_t image = 0;
  std::string image_steps;
  std::string cache;
  std::string cache_size = "20GB";
  std::string memory;
  std::string epoch_end = "pad";
  std::string on_error = "raise";
  bool in_order = false;
  double seconds = 0;
  int64_t plan = 0;
  stream::StreamOptions options;
};

template <typename T>
Status Choose(const std::string& what, const std::string& word,
              const std::vector<std::pair<std::string, T>>& choices, T* out) {
  std::string known;
  for (const auto& [name, value] : choices) {
    if (name == word) {
      *out = value;
      return Status::Ok();
    }
    known += (known.empty() ? "" : ", ") + name;
  }
  return Status::Invalid(what + " is '" + word + "'; it may be " + known);
}

// Steps for every picture column that is asked for.
Status AddImages(const table::View& view, StreamWords* words) {
  if (words->image <= 0 && words->image_steps.empty()) return Status::Ok();
  std::string steps = words->image_steps;
  if (steps.empty()) {
    const ordered_json list = {{{"op", "random_resized_crop"}, {"size", {words->image, words->image}}},
                               {{"op", "horizontal_flip"}}};
    steps = list.dump();
  }
  HEADRACE_ASSIGN(const auto projections, table::ProjectColumns(view.schema(), words->options.columns));
  for (const auto& projection : projections) {
    if (projection.leaf.type.kind == table::Kind::kBlob)
      words->options.images.emplace_back(projection.name, steps);
  }
  if (words->options.images.empty()) {
    return Status::Invalid("--image makes pictures of a blob column, and none is among the columns");
  }
  return Status::Ok();
}

std::string Percent(double part, double whole) {
  char text[16];
  std::snprintf(text, sizeof text, "%.0f %%", whole > 0 ? part / whole * 100 : 0);
  return text;
}

// What the numbers mean, in words.
std::string Advice(const std::string& bottleneck) {
  if (bottleneck == "store")
    return "the store: reading is slower than decoding; try --cache, or a nearer bucket";
  if (bottleneck == "decode")
    return "decode: this machine's cores; more of them, or smaller pictures, go faster";
  if (bottleneck == "consumer") return "the consumer: batches wait for whoever uses them";
  return bottleneck;
}

std::string LiveLine(const StreamStats& now, const StreamStats& before, double seconds) {
  const auto rate = [&](auto a, auto b) { return static_cast<double>(a - b) / std::max(seconds, 1e-9); };
  const int64_t hits = now.chunk_hits - before.chunk_hits;
  const int64_t all = hits + now.chunk_misses - before.chunk_misses;
  const int64_t cached = now.cache_hits + now.cache_misses;
  std::string line =
      HumanCount(static_cast<int64_t>(rate(now.samples, before.samples))) + " samples/s  " +
      HumanBytes(rate(now.media_bytes + now.cache_hits, before.media_bytes + before.cache_hits)) +
      "/s read  waited " + Percent(now.waited_seconds - before.waited_seconds, seconds) + "  decode " +
      Percent(now.decode_seconds - before.decode_seconds, seconds * now.threads) + "  pages in memory " +
      Percent(static_cast<double>(hits), static_cast<double>(all));
  if (cached > 0)
    line += "  cache hits " + Percent(static_cast<double>(now.cache_hits), static_cast<double>(cached));
  if (!now.bottleneck.empty()) line += "  bound by " + now.bottleneck;
  return line;
}

Status ShowPlan(const Context& context, const stream::Stream& stream, int64_t count) {
  HEADRACE_ASSIGN(const auto planned, stream.Plan(count));
  const auto& options = stream.options();
  if (!context.json) std::printf("%10s  %6s  %12s  %12s\n", "position", "rank", "ordinal", "row id");
  for (const auto& sample : planned) {
    const int64_t rank = sample.point.position % options.world;
    if (context.json) {
      PrintJson({{"epoch", sample.point.epoch},
                 {"position", sample.point.position},
                 {"rank", rank},
                 {"ordinal", sample.ordinal},
                 {"row_id", sample.row_id}});
    } else {
      std::printf("%10ld  %6ld  %12ld  %12ld\n", static_cast<long>(sample.point.position),
                  static_cast<long>(rank), static_cast<long>(sample.ordinal),
                  static_cast<long>(sample.row_id));
    }
  }
  if (!context.json) {
    std::printf("%s rows an epoch, %s steps of %ld × %d; state: %s\n", HumanCount(stream.length()).c_str(),
                HumanCount(stream.steps_left()).c_str(), static_cast<long>(options.batch), options.world,
                stream.state().ToJson().c_str());
  }
  return Status::Ok();
}

void Summarize(const Context& context, const StreamStats& s, double first_batch, const std::string& state) {
  const double rate = static_cast<double>(s.samples) / std::max(s.seconds, 1e-9);
  if (context.json) {
    PrintJson({{"samples", s.samples},
               {"batches", s.batches},
               {"seconds", s.seconds},
               {"samples_per_second", rate},
               {"first_batch_seconds", first_batch},
               {"waited_share", s.waited_seconds / std::max(s.seconds, 1e-9)},
               {"decode_share", s.decode_seconds / std::max(s.seconds * s.threads, 1e-9)},
               {"media_bytes", s.media_bytes},
               {"batch_bytes", s.batch_bytes},
               {"cache_hit_bytes", s.cache_hits},
               {"cache_miss_bytes", s.cache_misses},
               {"bad", s.bad},
               {"memory_peak", s.memory_peak},
               {"bottleneck", s.bottleneck},
               {"state", ParseJsonInOrder(state)}});
    return;
  }
  std::printf("%s samples in %s: %s samples/s, %s/s read, first batch after %s\n",
              HumanCount(s.samples).c_str(), HumanSeconds(s.seconds).c_str(),
              HumanCount(static_cast<int64_t>(rate)).c_str(),
              HumanBytes(static_cast<double>(s.media_bytes) / std::max(s.seconds, 1e-9)).c_str(),
              HumanSeconds(first_batch).c_str());
  std::printf(
      "Waited %s of the time; the %d decoding threads were busy %s of theirs; batches took %s at most\n",
      Percent(s.waited_seconds, s.seconds).c_str(), s.threads,
      Percent(s.decode_seconds, s.seconds * s.threads).c_str(),
      HumanBytes(static_cast<double>(s.memory_peak)).c_str());
  if (s.cache_hits + s.cache_misses > 0) {
    std::printf("From the cache: %s; fetched into it: %s\n",
                HumanBytes(static_cast<double>(s.cache_hits)).c_str(),
                HumanBytes(static_cast<double>(s.cache_misses)).c_str());
  }
  if (s.bad > 0) {
    std::printf("%s samples could not be made:\n", HumanCount(s.bad).c_str());
    for (size_t i = 0; i < s.bad_rows.size() && i < 5; ++i)
      std::printf("  row %ld: %s\n", static_cast<long>(s.bad_rows[i].first), s.bad_rows[i].second.c_str());
  }
  if (!s.bottleneck.empty()) std::printf("Bound by %s\n", Advice(s.bottleneck).c_str());
}

Status RunStream(const Context& context, StreamWords* words) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  HEADRACE_ASSIGN(const auto view, catalog->Resolve(words->table));
  stream::StreamOptions& options = words->options;
  using stream::EpochEnd;
  using stream::OnError;
  HEADRACE_TRY(Choose<EpochEnd>(
      "--epoch-end", words->epoch_end,
      {{"pad", EpochEnd::kPad}, {"drop", EpochEnd::kDrop}, {"short", EpochEnd::kShort}}, &options.end));
  HEADRACE_TRY(Choose<OnError>(
      "--on-error", words->on_error,
      {{"raise", OnError::kRaise}, {"mask", OnError::kMask}, {"substitute", OnError::kSubstitute}},
      &options.on_error));
  if (!words->memory.empty()) {
    HEADRACE_ASSIGN(options.memory_bytes, ParseByteSize(words->memory));
  }
  if (!words->cache.empty()) {
    options.cache = words->cache;
    HEADRACE_ASSIGN(options.cache_bytes, ParseByteSize(words->cache_size));
  }
  options.shuffle = !words->in_order;
  options.stop = context.stop;
  options.progress = ProgressLine(context.quiet);
  HEADRACE_TRY(AddImages(view, words));
  HEADRACE_ASSIGN(const auto stream, stream::Stream::Open({{view, words->where}}, options));
  EndProgress();
  if (words->plan > 0) return ShowPlan(context, *stream, words->plan);

  const double start = MonotonicSeconds();
  double first_batch = -1;
  double shown = start;
  StreamStats before;
  int64_t epochs = 0;
  const bool terminal = StderrIsTerminal();
  while (epochs < options.epochs) {
    if (context.stop.stopped()) break;
    HEADRACE_ASSIGN(const auto batch, stream->Next([&] { return context.stop.stopped(); }));
    const double now = MonotonicSeconds();
    if (!batch) {
      ++epochs;
      continue;
    }
    if (first_batch < 0) first_batch = now - start;
    if (words->seconds > 0 && now - start >= words->seconds) break;
    if (!context.quiet && now - shown >= (terminal ? 0.5 : 5.0)) {
      const StreamStats stats = stream->stats();
      DrawLine(LiveLine(stats, before, now - shown));
      before = stats;
      shown = now;
    }
  }
  EndProgress();
  Summarize(context, stream->stats(), std::max(first_batch, 0.0), stream->state().ToJson());
  return Status::Ok();
}

}  // namespace

void AddStream(CLI::App* app, Context* context, Action* action) {
  auto* command =
      app->add_subcommand("stream", "Streams a table as a training run would, and tells how fast");
  auto words = std::make_shared<StreamWords>();
  auto& options = words->options;
  command->add_option("table", words->table, "A table, table@version or ref")->required();
  command
      ->add_option("-c,--columns", options.columns, "Columns, or fields such as image.width (default: all)")
      ->delimiter(',');
  command->add_option("-w,--where", words->where, "A filter, as in: image.width >= 512 and lang = 'en'");
  command->add_option("-b,--batch", options.batch, "Rows of a batch, per rank")->capture_default_str();
  command->add_option("--image", words->image,
                      "Decode pictures: random crops, resized to this many pixels, flipped");
  command->add_option("--image-steps", words->image_steps,
                      "Other image steps, as JSON (docs/guide/streams.md)");
  command->add_option("--seed", options.seed, "Of the order and of crops")->capture_default_str();
  command->add_flag("--in-order", words->in_order, "Do not shuffle");
  options.epochs = 1;
  command->add_option("--epochs", options.epochs, "How often to go through the rows")->capture_default_str();
  command->add_option("--seconds", words->seconds, "Stop after this long");
  command->add_option("--rank", options.rank, "This process among the world's")
      ->envname("RANK")
      ->capture_default_str();
  command->add_option("--world", options.world, "How many processes share the steps")
      ->envname("WORLD_SIZE")
      ->capture_default_str();
  command->add_option("--epoch-end", words->epoch_end, "pad, drop or short: what becomes of the last batch")
      ->capture_default_str();
  command->add_option("--on-error", words->on_error, "raise, mask or substitute bad samples")
      ->capture_default_str();
  command->add_option("--threads", options.threads, "That decode (default: one per core)");
  command->add_option("--memory", words->memory,
                      "For batches and pages, as in 2GB (default: a quarter of the machine's)");
  command->add_option("--cache", words->cache, "A folder that keeps what was fetched from a distant store");
  command->add_option("--cache-size", words->cache_size, "Its budget")->capture_default_str();
  command
      ->add_option("--plan", words->plan,
                   "Print the first positions (10, or this many) without touching data")
      ->expected(0, 1)
      ->default_str("10");
  command->footer(
      "Examples:\n  headrace stream photos --columns image --batch 64 --image 224\n  headrace stream photos "
      "-c image,caption "
      "-w \"image.width >= 512\" --seconds 10\n  headrace stream photos --plan 20 --seed 17 --world 8");
  command->callback([=] {
    if (command->count("--plan") > 0 && words->plan == 0) words->plan = 10;
    *action = [=] { return RunStream(*context, words.get()); };
  });
}

}  // namespace headrace::cli
