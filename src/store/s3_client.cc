#include "store/s3_client.h"

#include <pugixml.hpp>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <thread>

#include "base/clock.h"
#include "base/digest.h"

namespace headrace::store {
namespace {

// S3 refuses signatures that are 15 minutes off.
constexpr int64_t kMostSkewUs = int64_t{10} * 60 * 1'000'000;

struct S3Error {
  std::string code;
  std::string message;
  std::string region;
};

S3Error ErrorOf(const HttpResponse& response) {
  pugi::xml_document xml;
  if (response.body.empty() || !xml.load_string(response.body.c_str())) return {};
  const auto error = xml.child("Error");
  return {error.child_value("Code"), error.child_value("Message"), error.child_value("Region")};
}

std::string Header(const HttpResponse& response, const char* name) {
  const auto it = response.headers.find(name);
  return it == response.headers.end() ? "" : it->second;
}

// Another attempt may be answered otherwise.
bool Retryable(const S3Call& call, const HttpResponse& response) {
  const int status = response.status;
  if (status == 408 || status == 429 || (status >= 500 && status != 501)) return true;
  if (status == 206) {
    // Less than the object has there: cut on its way. An object that has no more is the caller's matter.
    const int64_t whole = ObjectBytes(response);
    return call.length >= 0 && static_cast<int64_t>(response.body.size()) != call.length &&
           (whole < 0 || call.offset + call.length <= whole);
  }
  // An upload's completion is answered with 200 before it is known how it ends.
  if (status == 200 && call.method == "POST" && response.body.find("<Error>") != std::string::npos) {
    const std::string code = ErrorOf(response).code;
    return code == "InternalError" || code == "SlowDown" || code == "ServiceUnavailable";
  }
  if (status == 400) return ErrorOf(response).code == "RequestTimeout";
  if (status == 409) {
    const std::string code = ErrorOf(response).code;
    return code == "ConditionalRequestConflict" || code == "OperationAborted";
  }
  return false;
}

// Seconds to wait, as the answer says; 0 where it does not.
double RetryAfter(const HttpResponse& response) {
  const std::string text = Header(response, "retry-after");
  if (text.empty()) return 0;
  if (text.find_first_not_of("0123456789") == std::string::npos) return std::strtod(text.c_str(), nullptr);
  const auto date = HttpDateMicros(text);
  return date ? std::max<double>(0, static_cast<double>(*date - NowMicros()) / 1e6) : 0;
}

// `left`: seconds until the deadline. The wait leaves time for one more attempt.
void Pause(int attempt, double asked, double left) {
  thread_local std::mt19937_64 random(std::random_device{}());
  const double cap = std::min(10.0, 0.05 * static_cast<double>(1 << std::min(attempt, 10)));
  double seconds = std::min(left, std::uniform_real_distribution<>(0, cap)(random));
  if (asked > seconds) seconds = std::max(seconds, std::min(asked, left - 1));
  if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// New credentials are not known to all of a store's machines at once: they are sent again for so long.
constexpr double kSettleSeconds = 2;

}  // namespace

int64_t ObjectBytes(const HttpResponse& response) {
  const std::string range = Header(response, "content-range");  // "bytes 0-99/1234"
  const size_t slash = range.find('/');
  if (slash == std::string::npos || slash + 1 == range.size() ||
      !isdigit(static_cast<unsigned char>(range[slash + 1])))
    return -1;
  return std::strtoll(range.c_str() + slash + 1, nullptr, 10);
}

S3Client::S3Client(S3Config config)
    : config_(std::move(config)), region_(config_.region), address_(AddressOf(config_, region_)) {}

Result<S3Client::Sent> S3Client::Start(const S3Call& call, double seconds) {
  Sent sent;
  HEADRACE_ASSIGN(sent.used, config_.credentials->Get());
  S3Address address;
  {
    const std::lock_guard lock(mutex_);
    sent.region = region_;
    address = address_;
  }
  SignInput sign;
  sign.method = call.method;
  sign.path = address.path + (call.key.empty() ? "" : "/" + UriEncode(config_.prefix + call.key, true));
  if (sign.path.empty()) sign.path = "/";
  sign.query = call.query;
  sign.region = sent.region;
  sign.payload_hash = Sha256Hex(call.body);
  sent.clock_off_us = clock_off_us_;
  sign.amz_date = AmzDate(NowMicros() + sent.clock_off_us);
  sign.headers["host"] = address.host;
  sign.headers["x-amz-date"] = sign.amz_date;
  sign.headers["x-amz-content-sha256"] = sign.payload_hash;
  if (!sent.used.session_token.empty()) sign.headers["x-amz-security-token"] = sent.used.session_token;
  for (const auto& [name, value] : call.headers) sign.headers[name] = value;
  HttpRequest request;
  request.method = call.method;
  request.url = address.origin + sign.path;
  const std::string query = CanonicalQuery(call.query);
  if (!query.empty()) request.url += "?" + query;
  for (const auto& [name, value] : sign.headers) {
    if (name != "host") request.headers.push_back(name + ": " + value);
  }
  request.headers.push_back("authorization: " + Authorization(sign, sent.used));
  request.body = call.body;
  request.timeout_seconds = seconds;
  request.connect_seconds = std::min(seconds, config_.connect_seconds);
  sent.answer = http_.Send(std::move(request));
  return sent;
}

Result<HttpResponse> S3Client::Run(const S3Call& call, bool* lost, Sent* first) {
  const double deadline = MonotonicSeconds() + config_.deadline_seconds;
  Result<HttpResponse> answer = Status::Timeout("nothing was sent");
  Learned learned;
  for (int attempt = 0;; ++attempt) {
    const double left = deadline - MonotonicSeconds();
    if (left <= 0) break;
    Sent sent;
    if (attempt == 0 && first != nullptr) {
      sent = std::move(*first);
    } else {
      // One attempt gets a third of the time, so that a hanging connection leaves room for others.
      HEADRACE_ASSIGN(sent, Start(call, std::max(1.0, std::min(left, config_.deadline_seconds / 3))));
    }
    answer = sent.answer.get();
    if (answer.ok() && !Retryable(call, *answer)) {
      if (answer->status < 300) return answer;
      HEADRACE_ASSIGN(const bool again, Learn(sent, *answer, &learned));
      if (!again) return answer;
      continue;
    }
    if (lost != nullptr && !(answer.ok() && answer->status == 409)) *lost = true;
    Pause(attempt, answer.ok() ? RetryAfter(*answer) : 0, deadline - MonotonicSeconds());
  }
  if (answer.ok()) return Failure(call, *answer);
  return answer.status().Wrap("gave up on " + Describe() + call.key + " after " +
                              std::to_string(static_cast<int>(config_.deadline_seconds)) + " s");
}

// An answer to HEAD has no body and so no code: what it may mean is tried.
Result<bool> S3Client::Learn(const Sent& sent, const HttpResponse& response, Learned* learned) {
  const int status = response.status;
  if (status != 301 && status != 307 && status != 400 && status != 401 && status != 403) return false;
  const S3Error error = ErrorOf(response);
  if (!learned->region && LearnRegion(sent, response)) return learned->region = true;
  const bool nameless = error.code.empty() && response.body.empty();
  if (!learned->clock && status == 403 && (error.code == "RequestTimeTooSkewed" || nameless) &&
      LearnClock(sent, response)) {
    return learned->clock = true;
  }
  const bool expired = error.code == "ExpiredToken" || error.code == "InvalidToken" ||
                       error.code == "TokenRefreshRequired" || error.code == "ExpiredTokenException";
  const bool perhaps = nameless && !sent.used.session_token.empty();
  if (!expired && !perhaps) return false;
  const double now = MonotonicSeconds();
  if (learned->refused_at) {
    const bool surely = expired || status == 400;  // 403 without a code is more often a matter of rights
    if (!surely || now - *learned->refused_at > kSettleSeconds) return false;
    std::this_thread::sleep_for(std::chrono::duration<double>(kSettleSeconds / 20));
  } else {
    learned->refused_at = now;
  }
  const Status renewed = config_.credentials->Renew(sent.used);
  if (!renewed.ok()) return renewed.Wrap("the credentials for " + Describe() + " have expired");
  return true;
}

// Another request may have learned it meanwhile: what counts is by which clock this one was signed.
bool S3Client::LearnClock(const Sent& sent, const HttpResponse& response) {
  const auto theirs = HttpDateMicros(Header(response, "date"));
  if (!theirs) return false;
  const int64_t off = *theirs - NowMicros();
  if (std::abs(off - sent.clock_off_us) < kMostSkewUs) return false;
  clock_off_us_ = off;
  return true;
}

bool S3Client::LearnRegion(const Sent& sent, const HttpResponse& response) {
  std::string region = Header(response, "x-amz-bucket-region");
  if (region.empty()) region = ErrorOf(response).region;
  if (region.empty() || region == sent.region) return false;
  const std::lock_guard lock(mutex_);
  region_ = region;
  address_ = AddressOf(config_, region);
  return true;
}

Status S3Client::Failure(const S3Call& call, const HttpResponse& response) const {
  const S3Error error = ErrorOf(response);
  const std::string detail = error.message.empty() ? error.code : error.code + ": " + error.message;
  const std::string text = call.method + " " + Describe() + call.key + " was answered with " +
                           std::to_string(response.status) + (detail.empty() ? "" : " (" + detail + ")");
  switch (response.status) {
    case 404:
      return Status::NotFound(text);
    case 412:
    case 409:
      return Status::AlreadyExists(text);
    case 401:
    case 403:
      return Status::Permission(text + "; check the credentials and the region " + config_.region);
    case 416:
      return Status::Corrupt(text);
    default:
      return Retryable(call, response) ? Status::Unavailable(text) : Status::Io(text);
  }
}

}  // namespace headrace::store
