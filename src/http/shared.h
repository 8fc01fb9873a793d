// Shared: what a server's connections have in common, and the room that all bodies share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/cancel.h"
#include "http/http_server.h"
#include "http/loop.h"

namespace headrace::http {

// What a connection's exchanges share with the server.
struct Shared {
  std::shared_ptr<Loop> loop;
  HttpOptions options;
  Handler handler;
  std::atomic<bool> draining{false};
  std::atomic<int64_t> connections{0}, answering{0}, accepted{0}, refused{0}, gone{0}, malformed{0},
      too_slow{0};
  std::atomic<int64_t> body_bytes{0};  // of all requests that are read or answered

  void BeginAnswer() { ++answering; }
  void EndAnswer() {
    if (--answering > 0) return;
    const std::lock_guard lock(mutex_);  // nobody is between a look at the count and its wait
    all_answered_.notify_all();
  }
  bool WaitUntilAnswered(double seconds, const StopToken& stop) {
    std::unique_lock lock(mutex_);
    return all_answered_.wait_for(lock, stop.standard(), WaitDuration(seconds),
                                  [&] { return answering == 0; });
  }

  std::string ErrorBody(int status, const std::string& message, const std::string& path) const {
    return options.error_body ? options.error_body(status, message, path) : message + "\n";
  }

 private:
  std::mutex mutex_;  // of the condition alone
  std::condition_variable_any all_answered_;
};

// Bytes of the room that all bodies have, as long as it lives.
class BodyRoom {
 public:
  explicit BodyRoom(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  ~BodyRoom() { shared_->body_bytes -= bytes_; }
  BodyRoom(const BodyRoom&) = delete;
  BodyRoom& operator=(const BodyRoom&) = delete;
  // False: there is no room for so many. What is there already stays.
  bool GrowTo(int64_t bytes) {
    const int64_t more = bytes - bytes_;
    if (more > 0 && shared_->body_bytes + more > shared_->options.max_bodies) return false;
    shared_->body_bytes += more;
    bytes_ = bytes;
    return true;
  }

 private:
  std::shared_ptr<Shared> shared_;
  int64_t bytes_ = 0;
};

class Closable {
 public:
  virtual ~Closable() = default;
  virtual void CloseIfIdle() = 0;
};

}  // namespace headrace::http
