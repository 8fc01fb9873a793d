#include "trace/repeats.h"

#include <arrow/array/array_binary.h>
#include <arrow/array/array_primitive.h>
#include <arrow/record_batch.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/hash.h"
#include "table/arrow_bridge.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

uint64_t SpanKey(std::string_view trace, std::string_view span, int64_t ended) {
  std::string key(trace);
  key += span;
  key.append(reinterpret_cast<const char*>(&ended), sizeof ended);
  return Xxh3(key);
}

// Others' spans have a resource; our own requests are written once.
bool IsSpan(const json& row) { return row.contains("resource"); }

uint64_t HashOf(const json& row) {
  return SpanKey(row["trace_id"].get_ref<const std::string&>(), row["span_id"].get_ref<const std::string&>(),
                 row.contains("ended") ? row["ended"].get<int64_t>() : 0);
}

}  // namespace

bool Repeats::AnySpans(const std::vector<json>& rows) {
  return std::any_of(rows.begin(), rows.end(), IsSpan);
}

Status Repeats::Load(const table::View& view, int64_t since) {
  if (view.schema().Find("span_id") == nullptr) return Status::Ok();  // no span was kept there yet
  const std::string where = "resource is not null and time >= '" + FormatMicros(since) + "'";
  HEADRACE_ASSIGN(const auto reader,
                  view.Scan({.columns = {"trace_id", "span_id", "ended", "time"}, .where = where}));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) return Status::Ok();
    const auto& traces = static_cast<const arrow::StringArray&>(*batch->column(0));
    const auto& spans = static_cast<const arrow::StringArray&>(*batch->column(1));
    const auto& ends = static_cast<const arrow::TimestampArray&>(*batch->column(2));
    const auto& times = static_cast<const arrow::TimestampArray&>(*batch->column(3));
    for (int64_t i = 0; i < batch->num_rows(); ++i)
      known_[SpanKey(traces.GetView(i), spans.GetView(i), ends.IsNull(i) ? 0 : ends.Value(i))] =
          times.Value(i);
  }
}

Status Repeats::Drop(const std::optional<table::View>& view, std::vector<json>* rows) {
  fresh_.clear();
  int64_t first = INT64_MAX;
  for (const json& row : *rows)
    if (IsSpan(row)) first = std::min(first, row["time"].get<int64_t>());
  if (first == INT64_MAX) return Status::Ok();
  if (const int64_t since = first - kRepeatMicros; since < since_) {
    if (view) HEADRACE_TRY(Load(*view, since));
    since_ = since;
  }
  std::erase_if(*rows, [&](const json& row) {
    if (!IsSpan(row)) return false;
    const uint64_t key = HashOf(row);
    const auto time = row["time"].get<int64_t>();
    const auto [fresh, is_new] = fresh_.try_emplace(key, time);
    if (!is_new && std::abs(time - fresh->second) <= kRepeatMicros) return true;
    fresh->second = time;
    const auto known = known_.find(key);
    if (known == known_.end() || std::abs(time - known->second) > kRepeatMicros) return false;
    fresh_.erase(fresh);
    return true;
  });
  return Status::Ok();
}

void Repeats::DropMedia(std::vector<json>* rows) {
  fresh_media_.clear();
  std::erase_if(*rows, [&](const json& row) {
    const auto sum = row.find("sha256");
    // A run's says more than the bytes.
    if (row.contains("run") || sum == row.end() || !sum->is_string()) return false;
    return known_media_.contains(sum->get<std::string>()) ||
           !fresh_media_.insert(sum->get<std::string>()).second;
  });
}

void Repeats::Keep() {
  if (known_media_.size() > kMostKnownMedia) known_media_.clear();
  known_media_.merge(fresh_media_);
  fresh_media_.clear();
  for (const auto& [key, time] : fresh_) known_[key] = time;
  fresh_.clear();
  if (known_.size() > most_) Forget();
}

// Those that are too old to count, and where that is not enough, the older half.
void Repeats::Forget() {
  std::vector<int64_t> times;
  times.reserve(known_.size());
  for (const auto& [key, time] : known_) times.push_back(time);
  const auto middle = times.begin() + static_cast<int64_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  const int64_t newest = *std::max_element(middle, times.end());
  std::erase_if(known_, [&](const auto& entry) { return entry.second < newest - kRepeatMicros; });
  if (known_.size() > most_) std::erase_if(known_, [&](const auto& entry) { return entry.second < *middle; });
  // The table is not read again for what was forgotten.
}

}  // namespace headrace::trace
