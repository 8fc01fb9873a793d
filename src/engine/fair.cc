#include "engine/fair.h"

#include <algorithm>

namespace headrace::engine {

void Fair::Push(const std::string& key, const Entry& entry) {
  Key& at = keys_[key];
  if (at.queue.empty()) round_.push_back(key);
  at.queue.push_back(entry);
  ++size_;
}

void Fair::PushFront(const std::string& key, const Entry& entry) {
  Key& at = keys_[key];
  if (at.queue.empty()) round_.push_back(key);
  at.queue.push_front(entry);
  ++size_;
}

bool Fair::Remove(const std::string& key, uint64_t id) {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return false;
  auto& queue = found->second.queue;
  const auto at =
      std::find_if(queue.begin(), queue.end(), [id](const Entry& entry) { return entry.id == id; });
  if (at == queue.end()) return false;
  queue.erase(at);
  --size_;
  if (queue.empty()) {
    const auto place = std::find(round_.begin(), round_.end(), key);
    const auto index = static_cast<size_t>(place - round_.begin());
    round_.erase(place);
    if (at_ > index) --at_;
    if (at_ >= round_.size()) at_ = 0;
    if (found->second.deficit > 0) found->second.deficit = 0;
  }
  return true;
}

void Fair::Charge(const std::string& key, double seconds) {
  Key& at = keys_[key];
  at.deficit -= seconds;
  // Yesterday's work is not held against anybody for ever: a key's debt is at most 20 rounds.
  at.deficit = std::max(at.deficit, -20 * quantum_ * at.weight);
}

}  // namespace headrace::engine
