// Cancellation: a caller holds a StopSource; long work polls its token at least every 100 ms of its own work.
#pragma once

#include <atomic>
#include <memory>

#include "base/status.h"

namespace headrace {

class StopToken {
 public:
  StopToken() = default;
  bool stopped() const { return flag_ && flag_->load(std::memory_order_relaxed); }
  Status Check() const { return stopped() ? Status::Cancelled() : Status::Ok(); }

 private:
  friend class StopSource;
  std::shared_ptr<std::atomic<bool>> flag_;
};

class StopSource {
 public:
  StopSource() : flag_(std::make_shared<std::atomic<bool>>(false)) {}
  void Stop() { flag_->store(true); }
  bool stopped() const { return flag_->load(); }
  StopToken token() const {
    StopToken token;
    token.flag_ = flag_;
    return token;
  }

 private:
  std::shared_ptr<std::atomic<bool>> flag_;
};

}  // namespace headrace
