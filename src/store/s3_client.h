// Requests to one bucket: signed, sent, and sent again until there is an answer worth having.
//
// Each operation has one deadline. Within it are tried again: 408, 429, 5xx, 409 of two writers at once,
// refused and broken connections, answers that are too short; with exponential backoff and full jitter, or
// after as long as Retry-After says. Once each, and at once: expired credentials (after asking for others), a
// clock that is off (by the answer's Date), a bucket in another region (that the answer names). Clock and
// region are remembered.
#pragma once

#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "store/http_client.h"
#include "store/s3_config.h"

namespace headrace::store {

using S3Query = std::vector<std::pair<std::string, std::string>>;

struct S3Call {
  std::string method;
  std::string key;  // under the prefix; empty: the bucket itself
  S3Query query;
  std::vector<std::pair<std::string, std::string>> headers;  // lower-case names
  std::string_view body;                                     // must outlive the answer
  int64_t length = -1;                                       // of a 206 answer's body; -1: any
  int64_t offset = 0;                                        // where that begins in the object
};

// The size of the whole object, as the answer to a range tells (Content-Range); -1 where it does not.
int64_t ObjectBytes(const HttpResponse& response);

class S3Client {
 public:
  // A request on its way.
  struct Sent {
    std::future<Result<HttpResponse>> answer;
    S3Credentials used;
    std::string region;
    int64_t clock_off_us = 0;
  };

  explicit S3Client(S3Config config);

  std::string Describe() const { return "s3://" + config_.bucket + "/" + config_.prefix; }
  const S3Config& config() const { return config_; }

  // Sends once. The error: there are no credentials.
  Result<Sent> Start(const S3Call& call, double seconds);
  Result<Sent> Start(const S3Call& call) { return Start(call, config_.deadline_seconds / 3); }

  // Sends until there is an answer that trying again would not change. `*lost`: some attempt may have taken
  // effect unseen. `first`: what Start sent already.
  Result<HttpResponse> Run(const S3Call& call, bool* lost = nullptr, Sent* first = nullptr);

  // The error that an answer stands for.
  Status Failure(const S3Call& call, const HttpResponse& response) const;

 private:
  struct Learned {
    std::optional<double> refused_at;  // MonotonicSeconds() when credentials were first called expired
    bool clock = false;
    bool region = false;
  };
  // Whether the answer told something that makes the next one better: a region or clock that was not yet
  // known in this operation, or that credentials are to be renewed.
  Result<bool> Learn(const Sent& sent, const HttpResponse& response, Learned* learned);
  bool LearnClock(const Sent& sent, const HttpResponse& response);
  bool LearnRegion(const Sent& sent, const HttpResponse& response);

  S3Config config_;
  std::atomic<int64_t> clock_off_us_{0};  // the store's clock less ours
  std::mutex mutex_;
  std::string region_;
  S3Address address_;  // in that region
  HttpClient http_;
};

}  // namespace headrace::store
