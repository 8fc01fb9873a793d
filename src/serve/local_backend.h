// LocalBackend: a model in this process. Asleep, loading or ready:
//
//            Acquire                 loaded
//   asleep ───────────► loading ───────────────► ready
//     ▲                    │ failed: its waiters are told, and for kRetrySeconds all who ask
//     ├────────────────────┘                       │
//     └────────────────────────────────────────────┘ Sleep: no lease for a while, or others need the memory
//
// Loading is what it is given: it knows neither files nor engines, so that tests load what they like.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/backend.h"

namespace headrace::serve {

class LocalBackend final : public Backend, public std::enable_shared_from_this<LocalBackend> {
 public:
  struct Options {
    std::string name;
    model::Task task = model::Task::kWrite;  // as far as it is known before it is loaded
    size_t most_waiting = 1024;
    double retry_seconds = kRetrySeconds;
    // Begins to load, on another thread, and calls Loaded with what came of it. May not call it at once.
    std::function<void()> begin_load;
  };
  explicit LocalBackend(Options options);
  ~LocalBackend() override;  // who still waits is told that the server ends

  const std::string& name() const override { return options_.name; }
  model::Task task() const override { return task_; }
  BackendReport report() const override;
  Lease TryAcquire() override;
  WaitId Acquire(Done done) override;
  bool Cancel(WaitId wait) override;

  // What came of a load. False, and nothing else, where nobody began one.
  bool Loaded(Result<std::shared_ptr<Served>> loaded, double seconds);
  // Asleep, if it is ready and has had no lease for so long: gives what it had, for the caller to end.
  std::shared_ptr<Served> Sleep(double idle_seconds);
  // Seconds since the last lease ended; below 0: one is held, or it is not ready.
  double idle_seconds() const;
  // Puts another in the place of what is ready: gives the old one. Null, and nothing else, where it is asleep
  // or loading.
  std::shared_ptr<Served> Replace(std::shared_ptr<Served> served);

 private:
  // Shared with leases, which may outlive the backend.
  struct Use {
    std::atomic<int64_t> leases{0};
    std::atomic<double> last{0};  // monotonic seconds at which one ended
  };
  Lease MakeLease() const;  // with mutex_ held, and ready

  const Options options_;
  std::atomic<model::Task> task_;
  mutable std::mutex mutex_;
  BackendReport::State state_ = BackendReport::State::kAsleep;
  std::shared_ptr<Served> served_;  // where ready
  std::shared_ptr<Use> use_ = std::make_shared<Use>();
  std::map<WaitId, Done> waiting_;  // in their order
  WaitId next_wait_ = 1;
  int64_t loads_ = 0, sleeps_ = 0;
  double load_seconds_ = 0;
  double retry_at_ = 0;  // not before then, after a load that failed
  std::string trouble_;
};

}  // namespace headrace::serve
