#include "serve/local_backend.h"

#include <utility>

#include "base/check.h"
#include "base/clock.h"

namespace headrace::serve {

using State = BackendReport::State;

const char* StateName(State state) {
  return state == State::kReady ? "ready" : state == State::kLoading ? "loading" : "asleep";
}

LocalBackend::LocalBackend(Options options) : options_(std::move(options)), task_(options_.task) {}

LocalBackend::~LocalBackend() {
  for (const auto& [id, done] : waiting_) done(Status::Cancelled("the server is shutting down"));
}

BackendReport LocalBackend::report() const {
  const std::lock_guard lock(mutex_);
  BackendReport report;
  report.name = options_.name;
  report.state = state_;
  report.task = task_;
  report.served = served_;
  report.leases = use_->leases;
  report.waiting = static_cast<int64_t>(waiting_.size());
  report.loads = loads_;
  report.sleeps = sleeps_;
  report.load_seconds = load_seconds_;
  report.trouble = trouble_;
  return report;
}

Lease LocalBackend::MakeLease() const {
  ++use_->leases;
  return {served_.get(), [held = served_, use = use_](Served*) mutable {
            use->last = MonotonicSeconds();
            held.reset();
            --use->leases;
          }};
}

Lease LocalBackend::TryAcquire() {
  const std::lock_guard lock(mutex_);
  return state_ == State::kReady ? MakeLease() : nullptr;
}

Backend::WaitId LocalBackend::Acquire(Done done) {
  std::unique_lock lock(mutex_);
  if (state_ == State::kReady) {
    Lease lease = MakeLease();
    lock.unlock();
    done(std::move(lease));
    return kNoWait;
  }
  Status refused;
  if (waiting_.size() >= options_.most_waiting)
    refused = Status::Limit("too many requests wait for '" + options_.name + "' to be loaded");
  else if (state_ == State::kAsleep && MonotonicSeconds() < retry_at_)
    refused = Status::Unavailable("'" + options_.name + "' cannot be loaded: " + trouble_);
  if (!refused.ok()) {
    lock.unlock();
    done(refused);
    return kNoWait;
  }
  const WaitId id = next_wait_++;
  waiting_[id] = std::move(done);
  const bool begin = std::exchange(state_, State::kLoading) == State::kAsleep;
  lock.unlock();
  if (begin) options_.begin_load();
  return id;
}

bool LocalBackend::Cancel(WaitId wait) {
  Done done;  // let go of outside the lock: whatever it holds
  const std::lock_guard lock(mutex_);
  const auto found = waiting_.find(wait);
  if (found == waiting_.end()) return false;
  done = std::move(found->second);
  waiting_.erase(found);
  return true;
}

bool LocalBackend::Loaded(Result<std::shared_ptr<Served>> loaded, double seconds) {
  std::vector<std::pair<Done, Lease>> told;
  Status status = loaded.status();
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::kLoading) return false;
    if (loaded.ok()) {
      HEADRACE_CHECK(*loaded != nullptr);
      state_ = State::kReady;
      served_ = std::move(*loaded);
      task_ = served_->task;
      use_->last = MonotonicSeconds();
      ++loads_;
      load_seconds_ = seconds;
      trouble_.clear();
    } else {
      state_ = State::kAsleep;
      trouble_ = status.ToString();
      retry_at_ = MonotonicSeconds() + options_.retry_seconds;
      if (!status.Is(Code::kCancelled))
        status = Status::Unavailable("'" + options_.name + "' cannot be loaded: " + trouble_);
    }
    for (auto& [id, done] : waiting_)
      told.emplace_back(std::move(done), state_ == State::kReady ? MakeLease() : nullptr);
    waiting_.clear();
  }
  for (auto& [done, lease] : told) {
    if (lease)
      done(std::move(lease));
    else
      done(status);
  }
  return true;
}

std::shared_ptr<Served> LocalBackend::Sleep(double idle_seconds) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kReady || use_->leases > 0 || MonotonicSeconds() - use_->last < idle_seconds)
    return nullptr;
  state_ = State::kAsleep;
  ++sleeps_;
  return std::exchange(served_, nullptr);
}

double LocalBackend::idle_seconds() const {
  const std::lock_guard lock(mutex_);
  return state_ == State::kReady && use_->leases == 0 ? MonotonicSeconds() - use_->last : -1;
}

std::shared_ptr<Served> LocalBackend::Replace(std::shared_ptr<Served> served) {
  const std::lock_guard lock(mutex_);
  if (state_ != State::kReady) return nullptr;
  task_ = served->task;
  return std::exchange(served_, std::move(served));
}

}  // namespace headrace::serve
