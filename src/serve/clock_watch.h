// ClockWatch: notices that the machine's clock jumped (set by hand, by NTP after a long sleep, by a
// hypervisor). Waits and deadlines are of a clock that does not jump; what jumps are the times in rows and
// the expiry of keys.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

namespace headrace::serve {

class ClockWatch {
 public:
  // The clocks as they are now: microseconds since 1970, and seconds of the one that never runs backwards.
  // What there is to tell, "" where nothing is: the two went on by more than a second's difference since the
  // last look.
  std::string Look(int64_t wall_us, double monotonic);
  int64_t jumps() const;
  std::string last() const;  // what was told of the last jump

 private:
  mutable std::mutex mutex_;
  bool begun_ = false;
  int64_t wall_us_ = 0;
  double monotonic_ = 0;
  int64_t jumps_ = 0;
  std::string last_;
};

}  // namespace headrace::serve
