#include "base/task_pool.h"

#include <algorithm>

namespace headrace {

TaskPool::TaskPool(int threads, const char* name) {
  threads_.reserve(static_cast<size_t>(std::max(1, threads)));
  for (int i = 0; i < std::max(1, threads); ++i) threads_.emplace_back([this, name] { Loop(name); });
}

TaskPool::~TaskPool() { Close(); }

void TaskPool::Close() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_)
    if (thread.joinable()) thread.join();
}

bool TaskPool::Enqueue(std::function<void()> work) {
  {
    std::lock_guard lock(mutex_);
    if (closing_) return false;
    queue_.push_back(std::move(work));
  }
  wake_.notify_one();
  return true;
}

void TaskPool::Loop(const char* name) {
  pthread_setname_np(pthread_self(), name);
  for (;;) {
    std::function<void()> work;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

int DefaultThreads() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

}  // namespace headrace
