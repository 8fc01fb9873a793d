#include "serve/clock_watch.h"

#include <cmath>
#include <cstdio>

#include "base/clock.h"

namespace headrace::serve {

std::string ClockWatch::Look(int64_t wall_us, double monotonic) {
  const std::lock_guard lock(mutex_);
  const double jumped = static_cast<double>(wall_us - wall_us_) / 1e6 - (monotonic - monotonic_);
  const bool news = begun_ && std::abs(jumped) > 1;
  wall_us_ = wall_us;
  monotonic_ = monotonic;
  begun_ = true;
  if (!news) return "";
  ++jumps_;
  char text[160];
  std::snprintf(text, sizeof text,
                "the machine's clock jumped by %+.1f s and says %s: times of rows follow it", jumped,
                FormatMicros(wall_us).c_str());
  last_ = text;
  return text;
}

int64_t ClockWatch::jumps() const {
  const std::lock_guard lock(mutex_);
  return jumps_;
}

std::string ClockWatch::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

}  // namespace headrace::serve
