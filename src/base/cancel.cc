#include "base/cancel.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace headrace {

void StopToken::Wait() const {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait(lock, token_, [] { return false; });
}

bool StopToken::WaitFor(double seconds) const {
  constexpr double kLongest = 1e8;  // three years: more would not fit the clock's nanoseconds
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, token_, std::chrono::duration<double>(std::min(seconds, kLongest)),
                [] { return false; });
  return stopped();
}

}  // namespace headrace
