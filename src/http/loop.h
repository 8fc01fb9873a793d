// Loop: the network's one thread. Everything about connections and exchanges happens there.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <mutex>
#include <thread>
#include <utility>

namespace headrace::http {

namespace asio = boost::asio;

// The network's thread, for those who may outlive the server: exchanges are in many hands.
class Loop {
 public:
  explicit Loop(asio::io_context* io) : io_(io) {}
  void IsThisThread() { thread_ = std::this_thread::get_id(); }
  void Ended() {
    const std::lock_guard lock(mutex_);
    io_ = nullptr;
  }
  // Runs `work` there, now if that is where the caller is. What comes after its end is dropped.
  template <typename Fn>
  void Run(Fn work) {
    if (std::this_thread::get_id() == thread_.load()) return work();
    Post(std::move(work));
  }
  template <typename Fn>
  void Post(Fn work) {
    const std::lock_guard lock(mutex_);
    if (io_ != nullptr) asio::post(*io_, std::move(work));
  }

 private:
  std::mutex mutex_;
  asio::io_context* io_;
  std::atomic<std::thread::id> thread_;
};

}  // namespace headrace::http
