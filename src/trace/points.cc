#include "trace/points.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/json.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

constexpr size_t kHeadBytes = 20;        // step, micros, count
constexpr size_t kValueBytes = 12;       // number of a key, value
constexpr uint32_t kMostKeys = 1 << 24;  // numbers above it are not ours
constexpr size_t kNone = SIZE_MAX;

template <typename Value>
void Put(Value value, char** to) {
  std::memcpy(*to, &value, sizeof value);
  *to += sizeof value;
}

template <typename Value>
Value Get(const char* from) {
  Value value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename Value>
json Binary(const std::vector<Value>& values) {
  std::vector<uint8_t> bytes(values.size() * sizeof(Value));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return json::binary(std::move(bytes));
}

// Whether the steps are equally far apart, so that the first, the last and their number tell them all.
bool IsRegular(const std::vector<PointChunks::Point>& points) {
  int64_t all = 0;
  if (__builtin_sub_overflow(points.back().step, points.front().step, &all)) return false;
  for (size_t i = 2; i < points.size(); ++i)
    if (points[i].step - points[i - 1].step != points[1].step - points[0].step) return false;
  return true;
}

}  // namespace

void EncodePointsInto(int64_t step, int64_t micros, std::span<const std::pair<uint32_t, double>> values,
                      std::string* to) {
  to->resize(kHeadBytes + values.size() * kValueBytes);
  char* at = to->data();
  Put(step, &at);
  Put(micros, &at);
  Put(static_cast<uint32_t>(values.size()), &at);
  for (const auto& [key, value] : values) {
    Put(key, &at);
    Put(value, &at);
  }
}

std::string EncodePoints(int64_t step, int64_t micros, std::span<const std::pair<uint32_t, double>> values) {
  std::string bytes;
  EncodePointsInto(step, micros, values, &bytes);
  return bytes;
}

std::string EncodeKey(uint32_t number, std::string_view key) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes.append(key);
}

void PointChunks::Begin(Series series) {
  series_ = std::move(series);
  numbers_.clear();
}

bool PointChunks::AddKey(std::string_view payload) {
  if (payload.size() < sizeof(uint32_t)) return false;
  const auto number = Get<uint32_t>(payload.data());
  if (number >= kMostKeys) return false;
  const std::string_view key = payload.substr(sizeof number);
  auto found = known_.find(key);
  if (found == known_.end()) {
    found = known_.emplace(key, chunks_.size()).first;
    chunks_.push_back({.key = std::string(key), .points = {}});
  }
  if (number >= numbers_.size()) numbers_.resize(number + 1, kNone);
  numbers_[number] = found->second;
  return true;
}

bool PointChunks::Add(std::string_view payload, int64_t sequence, std::vector<json>* rows,
                      int64_t* last_micros) {
  if (payload.size() < kHeadBytes) return false;
  const auto step = Get<int64_t>(payload.data());
  const auto micros = Get<int64_t>(payload.data() + 8);
  const auto count = Get<uint32_t>(payload.data() + 16);
  if (payload.size() != kHeadBytes + static_cast<size_t>(count) * kValueBytes) return false;
  *last_micros = std::max(*last_micros, micros);
  bool known = true;
  for (const char* at = payload.data() + kHeadBytes; at < payload.data() + payload.size();
       at += kValueBytes) {
    const auto key = Get<uint32_t>(at);
    if (key >= numbers_.size() || numbers_[key] == kNone) {
      known = false;
      continue;
    }
    Chunk& chunk = chunks_[numbers_[key]];
    chunk.last = Get<double>(at + sizeof key);
    chunk.any = true;
    if (only_last_) continue;
    chunk.points.push_back({step, micros, chunk.last});
    chunk.sequence = sequence;
    ++waiting_;
    if (chunk.points.size() >= kMostChunkPoints) FlushChunk(&chunk, rows);
  }
  return known;
}

void PointChunks::FlushChunk(Chunk* chunk, std::vector<json>* rows) {
  std::vector<Point>& points = chunk->points;
  if (points.empty()) return;
  waiting_ -= static_cast<int64_t>(points.size());
  std::ranges::stable_sort(points, {}, &Point::step);
  const int64_t time = std::ranges::min(points, {}, &Point::micros).micros;
  std::vector<int64_t> steps;
  std::vector<float> seconds;
  std::vector<double> values;
  double min = INFINITY, max = -INFINITY, sum = 0;
  int64_t nans = 0;
  for (const Point& point : points) {
    steps.push_back(point.step);
    seconds.push_back(static_cast<float>(static_cast<double>(point.micros - time) / 1e6));
    values.push_back(point.value);
    if (std::isnan(point.value)) {
      ++nans;
      continue;
    }
    min = std::min(min, point.value);
    max = std::max(max, point.value);
    sum += point.value;
  }
  const auto numbers = static_cast<int64_t>(points.size()) - nans;
  json row = {{"run", series_.run},
              {"key", chunk->key},
              {"rank", series_.rank},
              {"life", series_.life},
              {"from_step", steps[0]},
              {"to_step", steps.back()},
              {"n", points.size()},
              {"time", time},
              {"nans", nans},
              {"first", values[0]},
              {"last", values.back()},
              {"seq", chunk->sequence},
              {"writer", series_.writer},
              {"seconds", Binary(seconds)},
              {"values", Binary(values)}};
  if (!IsRegular(points)) row["steps"] = Binary(steps);
  if (numbers > 0) {
    row["min"] = min;
    row["max"] = max;
    row["mean"] = sum / static_cast<double>(numbers);
  }
  rows->push_back(std::move(row));
  points = {};
}

void PointChunks::Flush(std::vector<json>* rows) {
  if (waiting_ == 0) return;
  for (Chunk& chunk : chunks_) FlushChunk(&chunk, rows);
}

std::vector<std::pair<std::string, double>> PointChunks::Last() const {
  std::vector<std::pair<std::string, double>> last;
  for (const Chunk& chunk : chunks_)
    if (chunk.any && !chunk.key.starts_with("sys/")) last.emplace_back(chunk.key, chunk.last);
  return last;
}

void PointChunks::Drop() {
  for (Chunk& chunk : chunks_) chunk.points.clear();
  waiting_ = 0;
}

}  // namespace headrace::trace
