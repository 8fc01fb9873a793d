// ComputeLease: one step at a time in this process. Two 2-thread ggml loops at once fall from 89 to 2 tokens
// a second on two cores, so everything that computes (language models, embedders) takes the lease for each of
// its steps, in order of arrival.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace headrace::engine {

class ComputeLease {
 public:
  class Hold {
   public:
    explicit Hold(ComputeLease* lease) : lease_(lease) { lease_->Take(); }
    ~Hold() { lease_->Give(); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    ComputeLease* lease_;
  };
  // Whether somebody waits for it now.
  bool wanted() {
    const std::lock_guard lock(mutex_);
    return next_ > serving_ + 1;
  }

 private:
  void Take() {
    std::unique_lock lock(mutex_);
    const uint64_t ticket = next_++;
    turn_.wait(lock, [&] { return serving_ == ticket; });
  }
  void Give() {
    const std::lock_guard lock(mutex_);
    ++serving_;
    turn_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable turn_;
  uint64_t next_ = 0, serving_ = 0;
};

}  // namespace headrace::engine
