#include "trace/run_log.h"

#include "base/json.h"
#include "trace/points.h"
#include "trace/replay.h"

namespace headrace::trace {

using nlohmann::json;

Result<std::unique_ptr<RunLog>> RunLog::Open(const std::string& root, Series series,
                                             const SpoolOptions& options) {
  std::unique_ptr<RunLog> log(new RunLog());
  log->series_ = series;
  const json head = {
      {"run", series.run}, {"rank", series.rank}, {"life", series.life}, {"owner", series.owner}};
  log->head_ = head.dump(-1, ' ', false, json::error_handler_t::replace);
  HEADRACE_ASSIGN(log->spool_, Spool::Create(root, options));
  HEADRACE_TRY(log->Declare(0));
  return log;
}

Status RunLog::NumberOf(std::string_view name, uint32_t* number) {
  auto found = numbers_.find(name);
  if (found == numbers_.end()) {
    if (name.empty()) return Status::Invalid("a metric needs a name, and this one is empty");
    if (name.size() > kMostKeyBytes)
      return Status::Limit("a metric's name of " + std::to_string(name.size()) +
                           " bytes is longer than the limit (kMostKeyBytes)");
    found = numbers_.emplace(name, static_cast<uint32_t>(keys_.size())).first;
    keys_.push_back({.name = found->first});
  }
  *number = found->second;
  return Status::Ok();
}

// Bytes of the records that must stand before this call's values in the segment.
int64_t RunLog::Undeclared() const {
  int64_t bytes = segment_ == 0 ? kFrameBytes + static_cast<int64_t>(head_.size()) : 0;
  for (const auto& [number, value] : values_) {
    const Key& key = keys_[number];
    if (segment_ == 0 || key.declared != segment_)
      bytes += kFrameBytes + static_cast<int64_t>(sizeof(uint32_t) + key.name.size());
  }
  return bytes;
}

// Room in one segment for a record of `bytes`, with all that must stand before it there.
Status RunLog::Declare(size_t bytes) {
  const int64_t record = kFrameBytes + static_cast<int64_t>(bytes);
  HEADRACE_ASSIGN(int64_t segment, spool_->Reserve(record + Undeclared()));
  if (segment != segment_) {
    segment_ = 0;  // nothing is declared in the new one
    HEADRACE_ASSIGN(segment, spool_->Reserve(record + Undeclared()));
    HEADRACE_TRY(spool_->Append(Kind::kSeries, head_));
    segment_ = segment;
  }
  for (const auto& [number, value] : values_) {
    Key& key = keys_[number];
    if (key.declared == segment_) continue;
    HEADRACE_TRY(spool_->Append(Kind::kKey, EncodeKey(number, key.name)));
    key.declared = segment_;
  }
  return Status::Ok();
}

Status RunLog::Log(int64_t step, int64_t micros,
                   std::span<const std::pair<std::string_view, double>> values) {
  const std::lock_guard lock(mutex_);
  values_.clear();
  for (const auto& [name, value] : values) {
    uint32_t number = 0;
    HEADRACE_TRY(NumberOf(name, &number));
    values_.emplace_back(number, value);
  }
  EncodePointsInto(step, micros, values_, &payload_);
  HEADRACE_TRY(Declare(payload_.size()));
  HEADRACE_TRY(spool_->Append(Kind::kPoints, payload_));
  for (const auto& [number, value] : values_) keys_[number].last = value;
  return Status::Ok();
}

Status RunLog::Record(const json& row) {
  return Append(Kind::kRun, row.dump(-1, ' ', false, json::error_handler_t::replace));
}

Status RunLog::LogMedia(json row, std::string_view bytes) {
  row["run"] = series_.run;
  row["rank"] = series_.rank;
  row["life"] = series_.life;
  return Append(Kind::kMedia, EncodeMedia(row, bytes));
}

Status RunLog::Append(Kind kind, std::string_view payload) {
  if (static_cast<int64_t>(payload.size()) > kMaxRecordBytes)
    return Status::Limit("what is logged has " + std::to_string(payload.size()) +
                         " bytes, more than the limit (kMaxRecordBytes); save it as an artifact");
  const std::lock_guard lock(mutex_);
  values_.clear();
  HEADRACE_TRY(Declare(payload.size()));
  return spool_->Append(kind, payload);
}

std::vector<std::pair<std::string, double>> RunLog::Last() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, double>> last;
  for (const Key& key : keys_)
    if (key.declared > 0) last.emplace_back(key.name, key.last);
  return last;
}

}  // namespace headrace::trace
