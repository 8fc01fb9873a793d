#include "stream/memory.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>

#include "base/check.h"

namespace headrace::stream {

Buffer::~Buffer() { budget_->Return(data_, size_); }
Reservation::~Reservation() { budget_->Release(bytes_); }

MemoryBudget::~MemoryBudget() {
  for (const auto& [size, data] : idle_) std::free(data);
}

bool MemoryBudget::MakeRoom(int64_t bytes) {
  while (used_ + free_ + bytes > limit_ && !idle_.empty()) {
    free_ -= idle_.back().first;
    std::free(idle_.back().second);
    idle_.pop_back();
  }
  return used_ + free_ + bytes <= limit_;
}

bool MemoryBudget::Take(const std::vector<int64_t>& sizes, int64_t extra, Grant* grant) {
  const std::lock_guard lock(mutex_);
  return TakeLocked(sizes, extra, grant);
}

bool MemoryBudget::TakeWithin(double seconds, const StopToken& stop, const std::vector<int64_t>& sizes,
                              int64_t extra, Grant* grant) {
  std::unique_lock lock(mutex_);
  return returned_.wait_for(lock, stop.standard(), std::chrono::duration<double>(seconds),
                            [&] { return TakeLocked(sizes, extra, grant); });
}

bool MemoryBudget::TakeLocked(const std::vector<int64_t>& sizes, int64_t extra, Grant* grant) {
  // Idle buffers of exactly these sizes are taken first: they need no room.
  std::vector<uint8_t*> found(sizes.size(), nullptr);
  int64_t needed = extra;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto it =
        std::find_if(idle_.begin(), idle_.end(), [&](const auto& idle) { return idle.first == sizes[i]; });
    if (it == idle_.end()) {
      needed += sizes[i];
      continue;
    }
    found[i] = it->second;
    idle_.erase(it);
    free_ -= sizes[i];
    used_ += sizes[i];
  }
  if (!MakeRoom(needed)) {
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (found[i] == nullptr) continue;
      idle_.emplace_back(sizes[i], found[i]);
      free_ += sizes[i];
      used_ -= sizes[i];
    }
    return false;
  }
  used_ += needed;
  peak_ = std::max(peak_, used_ + free_);
  grant->buffers.clear();
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (found[i] == nullptr) {
      const size_t rounded = (static_cast<size_t>(std::max<int64_t>(sizes[i], 1)) + 63) / 64 * 64;
      found[i] = static_cast<uint8_t*>(std::aligned_alloc(64, rounded));
      HEADRACE_CHECK(found[i] != nullptr);
    }
    grant->buffers.push_back(std::make_shared<Buffer>(shared_from_this(), found[i], sizes[i]));
  }
  if (extra > 0) grant->extra = std::make_shared<Reservation>(shared_from_this(), extra);
  return true;
}

void MemoryBudget::Return(uint8_t* data, int64_t size) {
  {
    const std::lock_guard lock(mutex_);
    used_ -= size;
    free_ += size;
    idle_.emplace_back(size, data);
  }
  returned_.notify_all();
}

void MemoryBudget::Release(int64_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    used_ -= bytes;
  }
  returned_.notify_all();
}

int64_t MemoryBudget::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

int64_t MemoryBudget::peak() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

}  // namespace headrace::stream
