#include "trace/replay.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "trace/span_rows.h"

namespace headrace::trace {

using nlohmann::json;

namespace {

// No object where it is not what EncodeMedia makes.
json DecodeMedia(std::string_view payload) {
  uint32_t length = 0;
  if (payload.size() < sizeof length) return nullptr;
  std::memcpy(&length, payload.data(), sizeof length);
  payload.remove_prefix(sizeof length);
  if (length > payload.size()) return nullptr;
  json row = ParseJson(payload.substr(0, length));
  payload.remove_prefix(length);
  if (row.is_object() && !payload.empty())
    row["data"] = json::binary(std::vector<uint8_t>(payload.begin(), payload.end()));
  return row;
}

}  // namespace

std::string EncodeMedia(const json& row, std::string_view bytes) {
  const std::string text = row.dump(-1, ' ', false, json::error_handler_t::replace);
  const auto length = static_cast<uint32_t>(text.size());
  std::string payload(sizeof length, '\0');
  std::memcpy(payload.data(), &length, sizeof length);
  return payload.append(text).append(bytes);
}

void Replay::Take(const Record& record, Rows* rows) {
  from_start_ = from_start_ || (last_ == Position() && record.end.segment == 1);
  last_ = record.end;
  const KindFacts* facts = FindKind(record.kind);
  if (facts == nullptr) {
    ++unreadable_;
    return;
  }
  if (facts->role == Role::kSpans) {
    if (!AddSpans(record.payload, &(*rows)[facts->table], &(*rows)[FindTable(kMedia)])) ++unreadable_;
    return;
  }
  if (facts->role == Role::kKey || facts->role == Role::kPoints) {
    const bool read = facts->role == Role::kKey ? points_.AddKey(record.payload)
                                                : points_.Add(record.payload, record.end.sequence(),
                                                              &(*rows)[facts->table], &last_time_);
    if (!read) ++unreadable_;
    return;
  }
  json value = facts->role == Role::kMedia ? DecodeMedia(record.payload) : ParseJson(record.payload);
  if (!value.is_object()) {
    ++unreadable_;
    return;
  }
  std::vector<json>& table = (*rows)[facts->table];
  if (facts->role == Role::kSeries) {
    Flush(rows);
    if (!TakeSeries(value)) ++unreadable_;
    return;
  }
  if (facts->role == Role::kRow || facts->role == Role::kMedia) {
    if (facts->table == runs_) TakeRun(value);
    value["seq"] = record.end.sequence();
    value["writer"] = writer_;
    return table.push_back(std::move(value));
  }
  const auto id = value.find("id");
  if (id == value.end() || !id->is_string()) {
    ++unreadable_;
    return;
  }
  const std::pair<size_t, std::string> key(facts->table, *id);
  if (facts->role == Role::kBegin) {
    open_[key] = {std::move(value), record.end};
    return;
  }
  const auto begun = open_.find(key);
  if (begun == open_.end()) return table.push_back(std::move(value));  // the disk was full when it began
  json row = std::move(begun->second.row);
  row.update(value);
  table.push_back(std::move(row));
  open_.erase(begun);
}

bool Replay::TakeSeries(const json& head) {
  const auto run = head.find("run"), rank = head.find("rank"), life = head.find("life"),
             owner = head.find("owner");
  if (run == head.end() || !run->is_string() || rank == head.end() || !rank->is_number_integer() ||
      life == head.end() || !life->is_number_integer())
    return false;
  points_.Begin({*run, rank->get<int64_t>(), life->get<int64_t>(), writer_});
  if (owner != head.end() && *owner == true) {
    run_ = *run;
    life_ = *life;
  }
  return true;
}

void Replay::TakeRun(const json& row) {
  const auto id = row.find("id"), state = row.find("state"), time = row.find("time");
  if (time != row.end() && time->is_number_integer()) last_time_ = std::max(last_time_, time->get<int64_t>());
  if (const auto summary = row.find("summary"); summary != row.end()) summary_ = *summary;
  if (run_ && id != row.end() && *id == *run_ && state != row.end() && *state != "running") run_.reset();
}

void Replay::AddInterrupted(Rows* rows) const {
  for (const auto& [key, begun] : open_) {
    json row = begun.row;
    row["finish"] = "interrupted";
    row["why"] = "the server ended before the answer did";
    (*rows)[key.first].push_back(std::move(row));
  }
  if (!run_) return;
  json row = {{"id", *run_},
              {"seq", last_.sequence() + 1},
              {"time", last_time_ + 1},  // after all that it told
              {"writer", writer_},
              {"life", life_},
              {"state", "killed"},
              {"ended", last_time_},
              {"reason", "its process ended without a word, soon after the last thing that it logged"}};
  AddSummary(&row);
  (*rows)[runs_].push_back(std::move(row));
}

// The run's summary with the last value of each metric. Where the spool's beginning is gone, and no row told
// one, some would be missing: then there is none.
void Replay::AddSummary(json* row) const {
  if (!from_start_ && !summary_.is_object()) return;
  json summary = summary_.is_object() ? summary_ : json::object();
  for (const auto& [key, value] : points_.Last()) {
    json& known = summary[key];
    // What a program says of it itself stays; numbers that JSON lacks are texts.
    const bool text = known.is_string() && known != "nan" && known != "inf" && known != "-inf";
    if (text || known.is_structured()) continue;
    known = std::isfinite(value) ? json(value) : json(std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
  }
  if (!summary.empty()) (*row)["summary"] = std::move(summary);
}

void Replay::AddRunning(Rows* rows) const {
  for (const auto& [key, begun] : open_) {
    json row = begun.row;
    row["finish"] = nullptr;
    row["why"] = "running";
    (*rows)[key.first].push_back(std::move(row));
  }
  if (!run_) return;
  json row = {{"id", *run_}, {"time", last_time_ + 1}, {"writer", writer_}, {"life", life_}};
  AddSummary(&row);
  if (row.contains("summary")) (*rows)[runs_].push_back(std::move(row));
}

Position Replay::Oldest(Position otherwise) const {
  for (const auto& [key, begun] : open_) otherwise = std::min(otherwise, begun.end);
  return otherwise;
}

}  // namespace headrace::trace
