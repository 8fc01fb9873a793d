// Cancellation: the caller holds a StopSource. Work checks its token at least every 100 ms, waits on it, or
// registers a callback.
#pragma once

#include <chrono>
#include <functional>
#include <stop_token>
#include <utility>

#include "base/status.h"

namespace headrace {

// `seconds` as a condition variable's wait_for takes them. Three years at most: more would not fit the
// clock's nanoseconds.
std::chrono::duration<double> WaitDuration(double seconds);

class StopToken {
 public:
  StopToken() = default;  // never stopped
  bool stopped() const { return token_.stop_requested(); }
  Status Check() const { return stopped() ? Status::Cancelled() : Status::Ok(); }
  // Until it is stopped.
  void Wait() const;
  // The same, for `seconds` at most. Whether it is stopped.
  bool WaitFor(double seconds) const;
  // For std::condition_variable_any, which waits for a condition or a stop.
  const std::stop_token& standard() const { return token_; }

 private:
  friend class StopSource;
  std::stop_token token_;
};

// Thread-safe; not for signal handlers, since callbacks run inside Stop.
class StopSource {
 public:
  void Stop() { source_.request_stop(); }
  bool stopped() const { return source_.stop_requested(); }
  StopToken token() const {
    StopToken token;
    token.token_ = source_.get_token();
    return token;
  }

 private:
  std::stop_source source_;
};

// Calls `fn` once: on the thread that stops the token, or at once where it is stopped already. After the
// destructor it is neither called nor running.
class StopCallback {
 public:
  StopCallback(const StopToken& token, std::function<void()> fn)
      : callback_(token.standard(), std::move(fn)) {}

 private:
  std::stop_callback<std::function<void()>> callback_;
};

}  // namespace headrace
