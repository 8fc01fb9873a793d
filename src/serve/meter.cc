#include "serve/meter.h"

#include <algorithm>
#include <cmath>

namespace headrace::serve {

Allowance Meter::Begin(const KeyFacts& key, int64_t tokens, double now) {
  Allowance a;
  const std::lock_guard lock(mutex_);
  Use& use = uses_[key.id];
  const auto per_minute = static_cast<double>(key.requests_per_minute);
  const auto tokens_per_minute = static_cast<double>(key.tokens_per_minute);
  if (use.at < 0) {
    use.requests = per_minute;
    use.tokens = tokens_per_minute;
  } else {
    const double minutes = std::max(0.0, now - use.at) / 60;
    use.requests = std::min(per_minute, use.requests + minutes * per_minute);
    use.tokens = std::min(tokens_per_minute, use.tokens + minutes * tokens_per_minute);
  }
  use.at = now;
  // A request larger than a minute's worth may begin when the bucket is full: it is paid off later.
  const double cost = std::min(static_cast<double>(tokens), tokens_per_minute);
  if (key.concurrent > 0 && use.running >= key.concurrent) {
    a.why = "the key has " + std::to_string(use.running) + " requests in flight, as many as it may";
    a.retry_after = 1;
  } else if (key.requests_per_minute > 0 && use.requests < 1) {
    a.why = "the key may make " + std::to_string(key.requests_per_minute) + " requests a minute";
    a.retry_after = (1 - use.requests) / per_minute * 60;
  } else if (key.tokens_per_minute > 0 && use.tokens < cost) {
    a.why = "the key may use " + std::to_string(key.tokens_per_minute) + " tokens a minute";
    a.retry_after = (cost - use.tokens) / tokens_per_minute * 60;
  } else {
    a.admitted = true;
    ++use.running;
    if (key.requests_per_minute > 0) use.requests -= 1;
    if (key.tokens_per_minute > 0) use.tokens -= static_cast<double>(tokens);
  }
  if (key.requests_per_minute > 0) {
    a.limit_requests = key.requests_per_minute;
    a.remaining_requests = static_cast<int64_t>(std::max(0.0, std::floor(use.requests)));
    a.reset_requests = (per_minute - use.requests) / per_minute * 60;
  }
  if (key.tokens_per_minute > 0) {
    a.limit_tokens = key.tokens_per_minute;
    a.remaining_tokens = static_cast<int64_t>(std::max(0.0, std::floor(use.tokens)));
    a.reset_tokens = (tokens_per_minute - use.tokens) / tokens_per_minute * 60;
  }
  return a;
}

void Meter::End(const std::string& key_id, int64_t guessed, int64_t used) {
  const std::lock_guard lock(mutex_);
  const auto found = uses_.find(key_id);
  if (found == uses_.end()) return;
  --found->second.running;
  found->second.tokens += static_cast<double>(guessed - used);
}

int64_t Meter::running(const std::string& key_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = uses_.find(key_id);
  return found == uses_.end() ? 0 : found->second.running;
}

}  // namespace headrace::serve
