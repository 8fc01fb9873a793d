#include "serve/kept_responses.h"

#include "base/clock.h"
#include "base/ids.h"
#include "trace/find.h"

namespace headrace::serve {
namespace {

constexpr size_t kMostBytes = 32 << 20;
constexpr char kDeleted[] = "response.deleted";  // a score's name: what is written down is only added to

size_t Size(const KeptResponse& one) { return one.input.size() + one.response.size() + 256; }

}  // namespace

void KeptResponses::Drop(std::list<std::string>::iterator at) {
  const auto found = newest_.find(*at);
  bytes_ -= Size(found->second.response);
  newest_.erase(found);
  order_.erase(at);
}

void KeptResponses::Put(const std::string& row_id, KeptResponse response) {
  const std::lock_guard lock(mutex_);
  if (newest_.contains(row_id)) return;
  bytes_ += Size(response);
  order_.push_back(row_id);
  newest_[row_id] = {std::move(response), std::prev(order_.end())};
  while (bytes_ > kMostBytes && !order_.empty()) Drop(order_.begin());
}

Result<std::optional<KeptResponse>> KeptResponses::Find(const std::string& row_id, const std::string& key) {
  const std::optional<KeptResponse> none;
  if (!on() || !Uuid::Parse(row_id).ok()) return none;
  {
    const std::lock_guard lock(mutex_);
    const auto found = newest_.find(row_id);
    if (found != newest_.end())
      return found->second.response.key == key ? std::optional(found->second.response) : none;
  }
  HEADRACE_ASSIGN(const auto row, trace::FindTrace(*catalog_, row_id));
  if (!row || row->value("key", "") != key) return none;
  const auto input = row->find("input"), response = row->find("response");
  if (input == row->end() || response == row->end() || !input->is_string() || !response->is_string())
    return none;
  HEADRACE_ASSIGN(const bool deleted, trace::HasScore(*catalog_, row_id, kDeleted));
  if (deleted) return none;
  return std::optional(KeptResponse{key, *input, *response});
}

Result<bool> KeptResponses::Delete(const std::string& row_id, const std::string& key) {
  HEADRACE_ASSIGN(const auto found, Find(row_id, key));
  if (!found) return false;
  if (!recorder_->Write(trace::Kind::kScore, {{"request", row_id},
                                              {"time", NowMicros()},
                                              {"name", kDeleted},
                                              {"source", "program"},
                                              {"who", key}}))
    return Status::Io("this cannot be written down: " + recorder_->stats().trouble);
  const std::lock_guard lock(mutex_);
  const auto entry = newest_.find(row_id);
  if (entry != newest_.end()) Drop(entry->second.place);
  return true;
}

}  // namespace headrace::serve
