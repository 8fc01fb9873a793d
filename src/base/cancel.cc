#include "base/cancel.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

namespace headrace {

void StopToken::Wait() const {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait(lock, token_, [] { return false; });
}

std::chrono::duration<double> WaitDuration(double seconds) {
  constexpr double kLongest = 1e8;
  return std::chrono::duration<double>(std::min(seconds, kLongest));
}

bool StopToken::WaitFor(double seconds) const {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, token_, WaitDuration(seconds), [] { return false; });
  return stopped();
}

}  // namespace headrace
