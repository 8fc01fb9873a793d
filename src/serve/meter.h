// Meter: what each key has used, against its limits. Token buckets (a minute's worth at most) for requests
// and tokens, and a count of what runs. Pure but for its lock; the clock is the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "serve/keys.h"

namespace headrace::serve {

struct Allowance {
  bool admitted = false;
  std::string why;         // where it is not
  double retry_after = 0;  // seconds
  // As x-ratelimit-* headers tell; -1: no limit.
  int64_t limit_requests = -1, remaining_requests = -1;
  int64_t limit_tokens = -1, remaining_tokens = -1;
  double reset_requests = 0, reset_tokens = 0;  // seconds until full
};

class Meter {
 public:
  // Asks to begin a request of so many tokens (a guess). Admitted requests must be given to End.
  Allowance Begin(const KeyFacts& key, int64_t tokens, double now);
  // The request is over; `guessed` as in Begin, `used` what it came to.
  void End(const std::string& key_id, int64_t guessed, int64_t used);
  int64_t running(const std::string& key_id) const;

 private:
  struct Use {
    double requests = 0, tokens = 0;  // left in the buckets
    double at = -1;                   // of the last look
    int64_t running = 0;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Use> uses_;
};

}  // namespace headrace::serve
