#include "store/s3_store.h"

#include <pugixml.hpp>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <random>
#include <thread>

#include "base/clock.h"
#include "store/http_client.h"
#include "store/s3_list.h"

namespace headrace::store {
namespace {

constexpr int64_t kPartBytes = 16 << 20;  // of a multipart upload

using Query = std::vector<std::pair<std::string, std::string>>;

struct Call {
  std::string method;
  std::string key;  // under the prefix; empty: the bucket itself
  Query query;
  std::vector<std::pair<std::string, std::string>> headers;  // lower-case names
  std::string_view body;
};

bool Retryable(int status) { return status == 408 || status == 429 || status >= 500; }

class S3Client {
 public:
  explicit S3Client(S3Config config) : config_(std::move(config)) {
    const size_t scheme = config_.endpoint.find("://");
    host_ = config_.endpoint.substr(scheme + 3);
  }

  std::string Describe() const { return "s3://" + config_.bucket + "/" + config_.prefix; }
  const S3Config& config() const { return config_; }

  std::future<Result<HttpResponse>> Start(const Call& call, double seconds) {
    SignInput sign;
    sign.method = call.method;
    sign.path = (config_.path_style ? "/" + config_.bucket : std::string());
    sign.path += call.key.empty() ? "/" : "/" + UriEncode(config_.prefix + call.key, true);
    sign.query = call.query;
    sign.region = config_.region;
    sign.payload_hash = Sha256Hex(call.body);
    std::time_t now = std::time(nullptr);
    std::tm utc{};
    gmtime_r(&now, &utc);
    char stamp[32];
    std::strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc);
    sign.amz_date = stamp;
    sign.headers["host"] = host_;
    sign.headers["x-amz-date"] = stamp;
    sign.headers["x-amz-content-sha256"] = sign.payload_hash;
    if (!config_.credentials.session_token.empty()) {
      sign.headers["x-amz-security-token"] = config_.credentials.session_token;
    }
    for (const auto& [name, value] : call.headers) sign.headers[name] = value;
    HttpRequest request;
    request.method = call.method;
    request.url = config_.endpoint + sign.path;
    const std::string query = CanonicalQuery(call.query);
    if (!query.empty()) request.url += "?" + query;
    for (const auto& [name, value] : sign.headers) {
      if (name != "host") request.headers.push_back(name + ": " + value);
    }
    request.headers.push_back("authorization: " + Authorization(sign, config_.credentials));
    request.body = call.body;
    request.timeout_seconds = seconds;
    request.connect_seconds = std::min(seconds, config_.connect_seconds);
    return http_.Send(std::move(request));
  }

  // Sends until there is an answer that trying again would not change. `*lost`: some attempt may have taken
  // effect unseen.
  Result<HttpResponse> Run(const Call& call, bool* lost = nullptr,
                           std::future<Result<HttpResponse>>* first = nullptr) {
    const double deadline = MonotonicSeconds() + config_.deadline_seconds;
    Result<HttpResponse> answer = Status::Timeout("nothing was sent");
    for (int attempt = 0;; ++attempt) {
      const double left = deadline - MonotonicSeconds();
      if (left <= 0) break;
      // One attempt gets a third of the time, so that a hanging connection leaves room for others.
      const double seconds = std::max(1.0, std::min(left, config_.deadline_seconds / 3));
      answer = attempt == 0 && first != nullptr ? first->get() : Start(call, seconds).get();
      if (answer.ok() && !Retryable(answer->status)) return answer;
      if (lost != nullptr) *lost = true;
      Pause(attempt, deadline - MonotonicSeconds());
    }
    if (answer.ok()) return Failure(call, *answer);
    return answer.status().Wrap("gave up on " + Describe() + call.key + " after " +
                                std::to_string(static_cast<int>(config_.deadline_seconds)) + " s");
  }

  Status Failure(const Call& call, const HttpResponse& response) const {
    std::string detail;
    pugi::xml_document xml;
    if (xml.load_string(response.body.c_str())) {
      const auto error = xml.child("Error");
      detail = error.child_value("Code");
      const std::string message = error.child_value("Message");
      if (!message.empty()) detail += ": " + message;
    }
    const std::string text = call.method + " " + Describe() + call.key + " was answered with " +
                             std::to_string(response.status) + (detail.empty() ? "" : " (" + detail + ")");
    switch (response.status) {
      case 404:
        return Status::NotFound(text);
      case 412:
        return Status::AlreadyExists(text);
      case 409:
        return Status::AlreadyExists(text);
      case 401:
      case 403:
        return Status::Permission(text + "; check the credentials and the region " + config_.region);
      case 416:
        return Status::Corrupt(text);
      default:
        return Retryable(response.status) ? Status::Unavailable(text) : Status::Io(text);
    }
  }

 private:
  static void Pause(int attempt, double left) {
    thread_local std::mt19937_64 random(std::random_device{}());
    const double cap = std::min(10.0, 0.05 * static_cast<double>(1 << std::min(attempt, 10)));
    const double seconds = std::min(left, std::uniform_real_distribution<>(0, cap)(random));
    if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }

  S3Config config_;
  std::string host_;
  HttpClient http_;
};

std::string RangeHeader(const ByteRange& range) {
  return "bytes=" + std::to_string(range.offset) + "-" + std::to_string(range.offset + range.length - 1);
}

Result<Bytes> RangeBody(const S3Client& client, const Call& call, HttpResponse response,
                        const ByteRange& range) {
  if (response.status != 206 && response.status != 200) return client.Failure(call, response);
  auto bytes = Bytes::FromString(std::move(response.body));
  if (response.status == 200 && bytes.size() >= range.offset + range.length) {
    return bytes.Slice(range.offset, range.length);  // a server without ranges
  }
  if (bytes.size() != range.length) {
    return Status::Unavailable("short read of " + client.Describe() + call.key + ": " +
                               std::to_string(bytes.size()) + " of " + std::to_string(range.length) +
                               " bytes arrived");
  }
  return bytes;
}

class S3Reader final : public ObjectReader {
 public:
  S3Reader(std::shared_ptr<S3Client> client, std::string key, int64_t size)
      : ObjectReader(std::move(key), size), client_(std::move(client)) {}

 protected:
  Result<Bytes> DoRead(int64_t offset, int64_t length) override {
    HEADRACE_ASSIGN(auto parts, DoReadMany({{offset, length}}, 0));
    return parts[0];
  }

  Result<std::vector<Bytes>> DoReadMany(const std::vector<ByteRange>& ranges, int64_t max_gap) override {
    std::vector<ByteRange> wanted;
    std::vector<size_t> index;
    std::vector<Bytes> parts(ranges.size());
    for (size_t i = 0; i < ranges.size(); ++i) {
      if (ranges[i].length == 0) continue;
      wanted.push_back(ranges[i]);
      index.push_back(i);
    }
    const auto merged = CoalesceRanges(wanted, max_gap, kCoalesceBytes);
    std::vector<Call> calls;
    std::vector<std::future<Result<HttpResponse>>> answers;
    for (const auto& part : merged) {
      calls.push_back({"GET", key(), {}, {{"range", RangeHeader(part.range)}}, {}});
      answers.push_back(client_->Start(calls.back(), client_->config().deadline_seconds / 3));
    }
    for (size_t i = 0; i < merged.size(); ++i) {
      HEADRACE_ASSIGN(auto response, client_->Run(calls[i], nullptr, &answers[i]));
      HEADRACE_ASSIGN(const Bytes bytes, RangeBody(*client_, calls[i], std::move(response), merged[i].range));
      for (const size_t member : merged[i].members) {
        parts[index[member]] =
            bytes.Slice(wanted[member].offset - merged[i].range.offset, wanted[member].length);
      }
    }
    return parts;
  }

 private:
  std::shared_ptr<S3Client> client_;
};

class S3Upload final : public Upload {
 public:
  S3Upload(std::shared_ptr<S3Client> client, std::string key)
      : client_(std::move(client)), key_(std::move(key)) {}
  ~S3Upload() override {
    if (!upload_id_.empty()) {
      const auto ignored = client_->Run({"DELETE", key_, {{"uploadId", upload_id_}}, {}, {}});
      (void)ignored;
    }
  }

  Status Append(std::string_view bytes) override {
    written_ += static_cast<int64_t>(bytes.size());
    while (!bytes.empty()) {
      const size_t take = std::min(bytes.size(), static_cast<size_t>(kPartBytes) - buffer_.size());
      buffer_.append(bytes.substr(0, take));
      bytes.remove_prefix(take);
      if (static_cast<int64_t>(buffer_.size()) == kPartBytes) HEADRACE_TRY(SendPart());
    }
    return Status::Ok();
  }

  Status Commit() override {
    if (upload_id_.empty()) {
      const Call call{"PUT", key_, {}, {}, buffer_};
      HEADRACE_ASSIGN(const auto response, client_->Run(call));
      return response.status / 100 == 2 ? Status::Ok() : client_->Failure(call, response);
    }
    if (!buffer_.empty()) HEADRACE_TRY(SendPart());
    std::string xml = "<CompleteMultipartUpload>";
    for (size_t i = 0; i < etags_.size(); ++i) {
      xml +=
          "<Part><PartNumber>" + std::to_string(i + 1) + "</PartNumber><ETag>" + etags_[i] + "</ETag></Part>";
    }
    xml += "</CompleteMultipartUpload>";
    const Call call{"POST", key_, {{"uploadId", upload_id_}}, {}, xml};
    bool lost = false;
    HEADRACE_ASSIGN(const auto response, client_->Run(call, &lost));
    // S3 may answer 200 with an error inside.
    const bool failed = response.status / 100 != 2 || response.body.find("<Error>") != std::string::npos;
    if (failed && !(lost && response.status == 404)) return client_->Failure(call, response);
    upload_id_.clear();
    return Status::Ok();
  }

 private:
  Status SendPart() {
    if (upload_id_.empty()) {
      const Call begin{"POST", key_, {{"uploads", ""}}, {}, {}};
      HEADRACE_ASSIGN(const auto response, client_->Run(begin));
      if (response.status / 100 != 2) return client_->Failure(begin, response);
      pugi::xml_document xml;
      xml.load_string(response.body.c_str());
      upload_id_ = xml.child("InitiateMultipartUploadResult").child_value("UploadId");
      if (upload_id_.empty()) return Status::Io("the store gave no upload id for " + key_);
    }
    const Call part{"PUT",
                    key_,
                    {{"partNumber", std::to_string(etags_.size() + 1)}, {"uploadId", upload_id_}},
                    {},
                    buffer_};
    HEADRACE_ASSIGN(const auto response, client_->Run(part));
    if (response.status / 100 != 2) return client_->Failure(part, response);
    const auto etag = response.headers.find("etag");
    etags_.push_back(etag == response.headers.end() ? "" : etag->second);
    buffer_.clear();
    return Status::Ok();
  }

  std::shared_ptr<S3Client> client_;
  std::string key_;
  std::string buffer_;
  std::string upload_id_;
  std::vector<std::string> etags_;
};

class S3Store final : public ObjectStore {
 public:
  explicit S3Store(S3Config config) : client_(std::make_shared<S3Client>(std::move(config))) {}

  std::string Describe() const override { return client_->Describe(); }
  bool probes_are_cheap() const override { return false; }

  Result<Bytes> Get(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const Call call{"GET", std::string(key), {}, {}, {}};
    HEADRACE_ASSIGN(auto response, client_->Run(call));
    if (response.status != 200) return client_->Failure(call, response);
    return Bytes::FromString(std::move(response.body));
  }

  Result<Bytes> GetRange(std::string_view key, ByteRange range) override {
    HEADRACE_TRY(ValidateKey(key));
    if (range.length == 0) return Bytes();
    const Call call{"GET", std::string(key), {}, {{"range", RangeHeader(range)}}, {}};
    HEADRACE_ASSIGN(auto response, client_->Run(call));
    return RangeBody(*client_, call, std::move(response), range);
  }

  Result<std::shared_ptr<ObjectReader>> Open(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const Call call{"HEAD", std::string(key), {}, {}, {}};
    HEADRACE_ASSIGN(const auto response, client_->Run(call));
    if (response.status != 200) return client_->Failure(call, response);
    const auto length = response.headers.find("content-length");
    if (length == response.headers.end())
      return Status::Io("the store gave no length for " + std::string(key));
    const int64_t size = std::strtoll(length->second.c_str(), nullptr, 10);
    return std::shared_ptr<ObjectReader>(std::make_shared<S3Reader>(client_, std::string(key), size));
  }

  Result<bool> Exists(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const Call call{"HEAD", std::string(key), {}, {}, {}};
    HEADRACE_ASSIGN(const auto response, client_->Run(call));
    if (response.status == 200) return true;
    if (response.status == 404) return false;
    return client_->Failure(call, response);
  }

  Status Put(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(ValidateKey(key));
    const Call call{"PUT", std::string(key), {}, {}, bytes};
    HEADRACE_ASSIGN(const auto response, client_->Run(call));
    return response.status / 100 == 2 ? Status::Ok() : client_->Failure(call, response);
  }

  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(ValidateKey(key));
    const Call call{"PUT", std::string(key), {}, {{"if-none-match", "*"}}, bytes};
    bool lost = false;
    HEADRACE_ASSIGN(const auto response, client_->Run(call, &lost));
    if (response.status / 100 == 2) return Status::Ok();
    const Status failure = client_->Failure(call, response);
    if (!lost || !failure.Is(Code::kAlreadyExists)) return failure;
    // An earlier attempt may have been ours.
    HEADRACE_ASSIGN(const Bytes there, Get(key));
    return there.view() == bytes ? Status::Ok() : failure;
  }

  Result<std::unique_ptr<Upload>> StartUpload(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    return std::unique_ptr<Upload>(std::make_unique<S3Upload>(client_, std::string(key)));
  }

  Status Delete(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const Call call{"DELETE", std::string(key), {}, {}, {}};
    HEADRACE_ASSIGN(const auto response, client_->Run(call));
    return response.status / 100 == 2 || response.status == 404 ? Status::Ok()
                                                                : client_->Failure(call, response);
  }

  Result<std::vector<ObjectInfo>> List(std::string_view prefix, std::string_view start_after,
                                       int64_t limit) override {
    const std::string& own = client_->config().prefix;
    std::vector<ObjectInfo> found;
    std::string token;
    while (static_cast<int64_t>(found.size()) < limit) {
      Query query = {
          {"list-type", "2"},
          {"prefix", own + std::string(prefix)},
          {"max-keys", std::to_string(std::min<int64_t>(1000, limit - static_cast<int64_t>(found.size())))}};
      if (!token.empty()) {
        query.emplace_back("continuation-token", token);
      } else if (!start_after.empty()) {
        query.emplace_back("start-after", own + std::string(start_after));
      }
      const Call call{"GET", "", query, {}, {}};
      HEADRACE_ASSIGN(const auto response, client_->Run(call));
      if (response.status != 200) return client_->Failure(call, response);
      auto page = ParseS3Listing(response.body, own);
      if (!page.ok()) return page.status().Wrap("cannot list " + Describe());
      std::move(page->objects.begin(), page->objects.end(), std::back_inserter(found));
      token = std::move(page->next_token);
      if (token.empty()) break;
    }
    return found;
  }

 private:
  std::shared_ptr<S3Client> client_;
};

}  // namespace

std::shared_ptr<ObjectStore> NewS3Store(S3Config config) {
  return std::make_shared<S3Store>(std::move(config));
}

Result<std::shared_ptr<ObjectStore>> OpenS3Store(const std::string& location) {
  HEADRACE_ASSIGN(auto config, S3ConfigFromEnvironment(location));
  return NewS3Store(std::move(config));
}

}  // namespace headrace::store
