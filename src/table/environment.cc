#include "table/environment.h"

namespace headrace::table {

std::shared_ptr<void> FileCache::Find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto it = index_.find(key);
  if (it == index_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, it->second);
  return it->second->second;
}

void FileCache::Insert(const std::string& key, std::shared_ptr<void> value) {
  const std::lock_guard lock(mutex_);
  if (index_.contains(key)) return;
  recent_.emplace_front(key, std::move(value));
  index_[key] = recent_.begin();
  if (recent_.size() > capacity_) {
    index_.erase(recent_.back().first);
    recent_.pop_back();
  }
}

}  // namespace headrace::table
