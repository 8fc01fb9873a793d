// in_flight: the requests that are being computed, as `headrace top` sees them and as stopping ends them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/cancel.h"

namespace headrace::serve {

struct InFlight {
  enum class State { kPreparing, kLoading, kWaiting, kAnswering };  // kLoading: its model is
  std::string id, endpoint, model, key;
  double arrived = 0;  // monotonic seconds
  std::atomic<int64_t> prompt_tokens{0}, answer_tokens{0};
  std::atomic<State> state{State::kPreparing};
  std::function<void()> stop;  // ends it with an error that says that the server stops; from any thread
};

// Thread-safe.
class InFlightList {
 public:
  void Add(const std::shared_ptr<InFlight>& request) {
    const std::lock_guard lock(mutex_);
    requests_[request->id] = request;
  }
  void Remove(const std::string& id) {
    const std::lock_guard lock(mutex_);
    requests_.erase(id);
    if (requests_.empty()) empty_.notify_all();
  }
  // Waits until there is none, at most so long or until `stop`. Whether that is so.
  bool WaitUntilEmpty(double seconds, const StopToken& stop) const {
    std::unique_lock lock(mutex_);
    return empty_.wait_for(lock, stop.standard(), WaitDuration(seconds), [&] { return requests_.empty(); });
  }
  std::vector<std::shared_ptr<InFlight>> all() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<InFlight>> list;
    for (const auto& [id, request] : requests_) list.push_back(request);
    return list;
  }
  size_t size() const {
    const std::lock_guard lock(mutex_);
    return requests_.size();
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable_any empty_;
  std::map<std::string, std::shared_ptr<InFlight>> requests_;
};

}  // namespace headrace::serve
