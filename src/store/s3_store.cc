#include "store/s3_store.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "store/kept_uploads.h"
#include "store/s3_client.h"
#include "store/s3_list.h"
#include "store/s3_upload.h"
#include "store/sized_open.h"

namespace headrace::store {
namespace {

S3Call RangeCall(std::string_view key, const ByteRange& range) {
  const int64_t last = range.offset + range.length - 1;
  const std::string bytes = "bytes=" + std::to_string(range.offset) + "-" + std::to_string(last);
  return {"GET", std::string(key), {}, {{"range", bytes}}, {}, range.length, range.offset};
}

Result<Bytes> RangeBody(const S3Client& client, const S3Call& call, HttpResponse response,
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
    std::vector<S3Call> calls;
    std::vector<S3Client::Sent> sent;
    for (const auto& part : merged) {
      calls.push_back(RangeCall(key(), part.range));
      HEADRACE_ASSIGN(auto started, client_->Start(calls.back()));
      sent.push_back(std::move(started));
    }
    for (size_t i = 0; i < merged.size(); ++i) {
      HEADRACE_ASSIGN(auto response, client_->Run(calls[i], nullptr, &sent[i]));
      const int64_t whole = ObjectBytes(response);
      if (whole >= 0 && whole != size())
        return Status::Corrupt(client_->Describe() + key() + " has " + std::to_string(whole) +
                               " bytes; it should have " + std::to_string(size()));
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

class S3Store final : public ObjectStore, public KeepsUploads, public OpensSized {
 public:
  explicit S3Store(S3Config config) : client_(std::make_shared<S3Client>(std::move(config))) {}

  std::string Describe() const override { return client_->Describe(); }
  bool is_local() const override { return false; }

  Result<Bytes> Get(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const S3Call call{"GET", std::string(key), {}, {}, {}};
    HEADRACE_ASSIGN(auto response, client_->Run(call));
    if (response.status != 200) return client_->Failure(call, response);
    return Bytes::FromString(std::move(response.body));
  }

  Result<Bytes> GetRange(std::string_view key, ByteRange range) override {
    HEADRACE_TRY(ValidateKey(key));
    if (range.length == 0) return Bytes();
    const S3Call call = RangeCall(key, range);
    HEADRACE_ASSIGN(auto response, client_->Run(call));
    return RangeBody(*client_, call, std::move(response), range);
  }

  Result<std::shared_ptr<ObjectReader>> Open(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const S3Call call{"HEAD", std::string(key), {}, {}, {}};
    HEADRACE_ASSIGN(const auto response, client_->Run(call));
    if (response.status != 200) return client_->Failure(call, response);
    const auto length = response.headers.find("content-length");
    if (length == response.headers.end())
      return Status::Io("the store gave no length for " + std::string(key));
    const int64_t size = std::strtoll(length->second.c_str(), nullptr, 10);
    return std::shared_ptr<ObjectReader>(std::make_shared<S3Reader>(client_, std::string(key), size));
  }

  Result<std::shared_ptr<ObjectReader>> OpenSized(std::string_view key, int64_t size) override {
    HEADRACE_TRY(ValidateKey(key));
    return std::shared_ptr<ObjectReader>(std::make_shared<S3Reader>(client_, std::string(key), size));
  }

  Result<bool> Exists(std::string_view key) override {
    HEADRACE_TRY(ValidateKey(key));
    const S3Call call{"HEAD", std::string(key), {}, {}, {}};
    HEADRACE_ASSIGN(const auto response, client_->Run(call));
    if (response.status == 200) return true;
    if (response.status == 404) return false;
    return client_->Failure(call, response);
  }

  Status Put(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(ValidateKey(key));
    const S3Call call{"PUT", std::string(key), {}, {}, bytes};
    HEADRACE_ASSIGN(const auto response, client_->Run(call));
    return response.status / 100 == 2 ? Status::Ok() : client_->Failure(call, response);
  }

  Status PutIfAbsent(std::string_view key, std::string_view bytes) override {
    HEADRACE_TRY(ValidateKey(key));
    const S3Call call{"PUT", std::string(key), {}, {{"if-none-match", "*"}}, bytes};
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
    const S3Call call{"DELETE", std::string(key), {}, {}, {}};
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
      S3Query query = {
          {"list-type", "2"},
          {"prefix", own + std::string(prefix)},
          {"max-keys", std::to_string(std::min<int64_t>(1000, limit - static_cast<int64_t>(found.size())))}};
      if (!token.empty()) {
        query.emplace_back("continuation-token", token);
      } else if (!start_after.empty()) {
        query.emplace_back("start-after", own + std::string(start_after));
      }
      const S3Call call{"GET", "", query, {}, {}};
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

  Result<int64_t> AbortUploads(int64_t before_us, bool dry_run) override {
    auto uploads = ListUploads(client_.get());
    if (!uploads.ok()) return uploads.status();
    int64_t count = 0;
    for (const auto& upload : *uploads) {
      if (upload.begun_us >= before_us) continue;
      if (!dry_run) HEADRACE_TRY(AbortUpload(client_.get(), upload.key, upload.id));
      ++count;
    }
    return count;
  }

 private:
  std::shared_ptr<S3Client> client_;
};

}  // namespace

std::shared_ptr<ObjectStore> NewS3Store(S3Config config) {
  return std::make_shared<S3Store>(std::move(config));
}

}  // namespace headrace::store
