// Credentials that are renewed before they expire.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "base/clock.h"
#include "base/status.h"
#include "store/s3_sign.h"

namespace headrace::store {

struct ExpiringCredentials {
  S3Credentials keys;
  int64_t expires_us = 0;  // since 1970 UTC; 0: never
};

// Asks `source` when there are none yet, and again from 5 minutes before they expire: one thread asks then,
// and the others go on with those that are still good. All threads may share one.
class S3CredentialProvider {
 public:
  using Source = std::function<Result<ExpiringCredentials>()>;

  // `now`: microseconds since 1970 UTC.
  explicit S3CredentialProvider(Source source, std::function<int64_t()> now = NowMicros);

  Result<S3Credentials> Get();
  // The store refused these, long before their time. Asks the source for others, unless another thread did so
  // since, or somebody a moment ago.
  Status Renew(const S3Credentials& refused);

 private:
  bool Usable(int64_t now) const;
  Result<S3Credentials> Fetch(std::unique_lock<std::mutex>* lock);

  const Source source_;
  const std::function<int64_t()> now_;
  std::mutex mutex_;
  std::condition_variable fetched_;
  std::optional<ExpiringCredentials> current_;
  Status failure_;  // of the last fetch
  bool fetching_ = false;
  int64_t not_before_us_ = INT64_MIN;   // Get() leaves the source alone until then,
  int64_t renew_after_us_ = INT64_MIN;  // and Renew() until then
};

}  // namespace headrace::store
