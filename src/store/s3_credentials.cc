#include "store/s3_credentials.h"

#include <algorithm>

namespace headrace::store {
namespace {

constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kAhead = 300 * kSecond;  // renewed so long before they expire
constexpr int64_t kRest = 5 * kSecond;     // between two questions to the source

}  // namespace

S3CredentialProvider::S3CredentialProvider(Source source, std::function<int64_t()> now)
    : source_(std::move(source)), now_(std::move(now)) {}

bool S3CredentialProvider::Usable(int64_t now) const {
  return current_ && (current_->expires_us == 0 || now < current_->expires_us);
}

Result<S3Credentials> S3CredentialProvider::Get() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const int64_t now = now_();
    const bool usable = Usable(now);
    if (usable && (current_->expires_us == 0 || now < current_->expires_us - kAhead)) return current_->keys;
    if (usable && (fetching_ || now < not_before_us_)) return current_->keys;
    if (!fetching_ && now < not_before_us_ && !failure_.ok()) return failure_;
    if (!fetching_) return Fetch(&lock);
    fetched_.wait(lock);
  }
}

Status S3CredentialProvider::Renew(const S3Credentials& refused) {
  std::unique_lock lock(mutex_);
  fetched_.wait(lock, [&] { return !fetching_; });
  const auto same = [&] {
    return current_ && current_->keys.access_key == refused.access_key &&
           current_->keys.secret_key == refused.secret_key &&
           current_->keys.session_token == refused.session_token;
  };
  if (!same()) return Status::Ok();
  if (now_() >= renew_after_us_) {
    (void)Fetch(&lock);
    renew_after_us_ = now_() + kRest;
  }
  return failure_;
}

Result<S3Credentials> S3CredentialProvider::Fetch(std::unique_lock<std::mutex>* lock) {
  fetching_ = true;
  lock->unlock();
  auto fetched = source_();
  lock->lock();
  fetching_ = false;
  const int64_t now = now_();
  const bool usable = Usable(now);
  not_before_us_ = now + kRest;
  fetched_.notify_all();
  if (fetched.ok()) {
    current_ = std::move(fetched).value();
    // Those that just came are used even if this machine's clock calls them expired: the store's clock
    // decides.
    if (current_->expires_us != 0) current_->expires_us = std::max(current_->expires_us, now + kRest);
    failure_ = Status::Ok();
    return current_->keys;
  }
  failure_ = fetched.status();
  if (usable) return current_->keys;  // a source that is away for a moment
  return failure_;
}

}  // namespace headrace::store
