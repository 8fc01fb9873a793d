#include "cli/run_media.h"

#include <arrow/array.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

#include "cli/render.h"
#include "trace/columns.h"

namespace headrace::cli {
namespace {

constexpr size_t kMostKeys = 500;
constexpr size_t kMostSteps = 32;             // of a key
constexpr size_t kMostItems = 64;             // of a step
constexpr size_t kMostItemBytes = 8 << 20;    // of one
constexpr size_t kMostMediaBytes = 64 << 20;  // of all
constexpr size_t kMostPieces = 64;            // of the output

using Batch = arrow::RecordBatch;

std::string TextAt(const Batch& batch, const char* name, int64_t row) {
  const auto& column = static_cast<const arrow::StringArray&>(*batch.GetColumnByName(name));
  return column.IsNull(row) ? "" : column.GetString(row);
}
int64_t IntegerAt(const Batch& batch, const char* name, int64_t row) {
  const auto& column = static_cast<const arrow::Int64Array&>(*batch.GetColumnByName(name));
  return column.IsNull(row) ? 0 : column.Value(row);
}

// Its rows, in the order of NewestRows.
Status EachRow(const trace::NewestRows& rows, const std::string& run, std::vector<std::string> columns,
               const std::function<Status(const Batch&, int64_t row)>& each) {
  columns.emplace_back("run");
  return rows.Each(columns, trace::RunIs(run), {}, [&](const Batch& batch) {
    for (int64_t row = 0; row < batch.num_rows(); ++row)
      if (TextAt(batch, "run", row) == run) HEADRACE_TRY(each(batch, row));
    return Status::Ok();
  });
}

// Where a row belongs, by its number in the order of EachRow.
struct Place {
  int64_t time = 0, index = 0;
  size_t row = 0;
  bool error = false;
};
using PlacesByStep = std::map<int64_t, std::vector<Place>>;

struct Found {
  std::map<std::pair<std::string, int64_t>, PlacesByStep> keys;
  std::vector<Place> output;
  int64_t replaced = 0;
};

bool IsReplaced(const std::map<int64_t, trace::Lives>& lives, const std::string& key, int64_t rank,
                int64_t life, int64_t step) {
  const auto of_rank = lives.find(rank);
  if (key.starts_with(trace::kSystem) || of_rank == lives.end()) return false;
  return std::any_of(of_rank->second.upper_bound(life), of_rank->second.end(),
                     [&](const auto& later) { return step >= later.second; });
}

Result<Found> Look(const trace::NewestRows& rows, const std::string& run,
                   const std::map<int64_t, trace::Lives>& lives) {
  Found found;
  size_t number = 0;
  HEADRACE_TRY(EachRow(rows, run, {"key", "rank", "life", "step", "index", "time", "kind"},
                       [&](const Batch& batch, int64_t row) {
                         const std::string key = TextAt(batch, "key", row);
                         const int64_t rank = IntegerAt(batch, "rank", row),
                                       step = IntegerAt(batch, "step", row);
                         const auto& time =
                             static_cast<const arrow::TimestampArray&>(*batch.GetColumnByName("time"));
                         const Place place{.time = time.IsNull(row) ? 0 : time.Value(row),
                                           .index = IntegerAt(batch, "index", row),
                                           .row = number++,
                                           .error = key == "sys/stderr"};
                         if (key == "sys/stdout" || key == "sys/stderr") {
                           found.output.push_back(place);
                         } else if (IsReplaced(lives, key, rank, IntegerAt(batch, "life", row), step)) {
                           ++found.replaced;
                         } else {
                           found.keys[{key, rank}][step].push_back(place);
                         }
                         return Status::Ok();
                       }));
  const auto order = [](const Place& p) { return std::tuple(p.time, p.index, p.row); };
  std::ranges::sort(found.output, {}, order);
  for (auto& [key, steps] : found.keys)
    for (auto& [step, places] : steps) std::ranges::sort(places, {}, order);
  return found;
}

// The first and the last, and others as far apart as can be.
std::vector<int64_t> Chosen(const PlacesByStep& steps) {
  std::vector<int64_t> all, chosen;
  for (const auto& [step, places] : steps) all.push_back(step);
  if (all.size() <= kMostSteps) return all;
  for (size_t i = 0; i < kMostSteps; ++i) chosen.push_back(all[i * (all.size() - 1) / (kMostSteps - 1)]);
  return chosen;
}

}  // namespace

Result<RunMedia> ReadRunMedia(const table::Catalog& catalog, const std::string& run,
                              const std::map<int64_t, trace::Lives>& lives) {
  HEADRACE_ASSIGN(const auto rows, trace::NewestRows::Of(catalog, trace::kMedia));
  HEADRACE_ASSIGN(auto found, Look(rows, run, lives));
  RunMedia media{.replaced = found.replaced};
  std::map<size_t, MediaItem*> wanted;
  std::map<size_t, OutputPiece*> pieces;
  for (const auto& [key, steps] : found.keys) {
    if (media.keys.size() == kMostKeys) {
      media.keys_left = found.keys.size() - kMostKeys;
      break;
    }
    MediaOfKey& of_key = media.keys.emplace_back();
    of_key = {.key = key.first, .rank = key.second, .steps = steps.size(), .shown = {}};
    for (const int64_t step : Chosen(steps)) {
      const auto& places = steps.at(step);
      of_key.shown.push_back({.step = step, .items = {}});
      auto& items = of_key.shown.back().items;
      items.resize(std::min(places.size(), kMostItems));
      if (places.size() > kMostItems)
        items.push_back({.left = std::to_string(places.size() - kMostItems) + " more of this step"});
    }
  }
  for (MediaOfKey& key : media.keys)
    for (MediaOfStep& step : key.shown) {
      const auto& places = found.keys.at({key.key, key.rank}).at(step.step);
      for (size_t i = 0; i < std::min(places.size(), kMostItems); ++i) wanted[places[i].row] = &step.items[i];
    }
  media.output_left = found.output.size() - std::min(found.output.size(), kMostPieces);
  for (size_t i = media.output_left; i < found.output.size(); ++i)
    media.output.push_back({.error = found.output[i].error, .text = {}});
  for (size_t i = 0; i < media.output.size(); ++i)
    pieces[found.output[media.output_left + i].row] = &media.output[i];
  size_t number = 0, left = kMostMediaBytes;
  HEADRACE_TRY(EachRow(rows, run, {"kind", "format", "caption", "text", "facts", "data"},
                       [&](const Batch& batch, int64_t row) -> Status {
                         const size_t at = number++;
                         if (const auto piece = pieces.find(at); piece != pieces.end())
                           piece->second->text = TextAt(batch, "text", row);
                         const auto one = wanted.find(at);
                         if (one == wanted.end()) return Status::Ok();
                         MediaItem& item = *one->second;
                         item.kind = TextAt(batch, "kind", row);
                         item.format = TextAt(batch, "format", row);
                         item.caption = TextAt(batch, "caption", row);
                         item.text = TextAt(batch, "text", row);
                         item.facts = TextAt(batch, "facts", row);
                         HEADRACE_ASSIGN(auto held, rows.Bytes(batch.GetColumnByName("data"), row));
                         if (held) item.bytes = std::move(*held);
                         const size_t bytes = item.bytes.size() + item.text.size() + item.facts.size();
                         if (bytes > kMostItemBytes || bytes > left) {
                           item.left = item.kind + " of " + HumanBytes(static_cast<double>(bytes)) +
                                       ": more than this page has room for";
                           item.bytes.clear();
                           item.text.clear();
                           item.facts.clear();
                           return Status::Ok();
                         }
                         left -= bytes;
                         return Status::Ok();
                       }));
  return media;
}

}  // namespace headrace::cli
