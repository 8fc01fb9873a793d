#include "trace/replay.h"

#include <algorithm>

namespace headrace::trace {

using nlohmann::json;

void Replay::Take(const Record& record, Rows* rows) {
  const KindFacts* facts = FindKind(record.kind);
  json value = ParseJson(record.payload);
  if (facts == nullptr || !value.is_object()) {
    ++unreadable_;
    return;
  }
  std::vector<json>& table = (*rows)[facts->table];
  if (facts->role == Role::kRow) return table.push_back(std::move(value));
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

void Replay::AddInterrupted(Rows* rows) const {
  for (const auto& [key, begun] : open_) {
    json row = begun.row;
    row["finish"] = "interrupted";
    row["why"] = "the server ended before the answer did";
    (*rows)[key.first].push_back(std::move(row));
  }
}

Position Replay::Oldest(Position otherwise) const {
  for (const auto& [key, begun] : open_) otherwise = std::min(otherwise, begun.end);
  return otherwise;
}

}  // namespace headrace::trace
