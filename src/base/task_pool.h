// A fixed set of threads that run submitted tasks in the order of submission. Thread-safe. Threads are
// joined, never detached.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace headrace {

class TaskPool {
 public:
  // `name`: the threads', as `top -H` shows it; at most 15 letters.
  explicit TaskPool(int threads, const char* name = "hr-task");
  ~TaskPool();  // as Close
  TaskPool(const TaskPool&) = delete;
  TaskPool& operator=(const TaskPool&) = delete;

  int threads() const { return static_cast<int>(threads_.size()); }
  // Runs what was submitted, then joins the threads. Tasks submitted afterwards are dropped.
  void Close();
  // False where the pool is closed: the work is dropped.
  bool TrySubmit(std::function<void()> work) { return Enqueue(std::move(work)); }

  template <typename Fn>
  auto Submit(Fn fn) -> std::future<decltype(fn())> {
    auto task = std::make_shared<std::packaged_task<decltype(fn())()>>(std::move(fn));
    auto future = task->get_future();
    (void)Enqueue([task] { (*task)(); });
    return future;
  }

 private:
  bool Enqueue(std::function<void()> work);
  void Loop(const char* name);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  bool closing_ = false;
  std::vector<std::thread> threads_;
};

// The number of hardware threads, at least 1.
int DefaultThreads();

}  // namespace headrace
