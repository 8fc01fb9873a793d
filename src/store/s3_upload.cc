#include "store/s3_upload.h"

#include <pugixml.hpp>

#include <algorithm>
#include <cstring>

#include "base/clock.h"

namespace headrace::store {
namespace {

constexpr int64_t kUploadPartBytes = 16 << 20;
constexpr size_t kPartsInFlight = 3;  // and one that is being filled
// S3 takes 10,000 parts; the parts of each thousand are twice as large as those before.
constexpr int64_t kPartsOfOneSize = 1000;

std::pair<std::string, std::string> IfAbsent() { return {"if-none-match", "*"}; }

}  // namespace

S3Upload::~S3Upload() {
  for (const auto& part : sending_) part->sent.answer.wait();  // the request reads its bytes
  if (!upload_id_.empty()) (void)AbortUpload(client_.get(), key_, upload_id_).ok();
}

int64_t S3Upload::PartBytes() const {
  const auto begun = static_cast<int64_t>(etags_.size() + sending_.size());
  return kUploadPartBytes << (begun / kPartsOfOneSize);
}

Status S3Upload::Append(std::string_view bytes) {
  written_ += static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const auto room = static_cast<size_t>(PartBytes()) - buffer_.size();
    const size_t take = std::min(bytes.size(), room);
    buffer_.append(bytes.substr(0, take));
    bytes.remove_prefix(take);
    if (take == room) HEADRACE_TRY(SendPart());
  }
  return Status::Ok();
}

Status S3Upload::Commit() {
  if (upload_id_.empty()) return PutWhole();
  if (!buffer_.empty()) HEADRACE_TRY(SendPart());
  while (!sending_.empty()) HEADRACE_TRY(AwaitPart());
  return Complete();
}

Status S3Upload::PutWhole() {
  const S3Call call{"PUT", key_, {}, {IfAbsent()}, buffer_};
  bool lost = false;
  HEADRACE_ASSIGN(const auto response, client_->Run(call, &lost));
  if (response.status / 100 == 2) return Status::Ok();
  const Status failure = client_->Failure(call, response);
  if (!lost || !failure.Is(Code::kAlreadyExists)) return failure;
  // An earlier attempt may have been ours.
  const S3Call get{"GET", key_, {}, {}, {}};
  HEADRACE_ASSIGN(const auto there, client_->Run(get));
  if (there.status != 200) return client_->Failure(get, there);
  return there.body == buffer_ ? Status::Ok() : failure;
}

Status S3Upload::Begin() {
  const S3Call call{"POST", key_, {{"uploads", ""}}, {}, {}};
  HEADRACE_ASSIGN(const auto response, client_->Run(call));
  if (response.status / 100 != 2) return client_->Failure(call, response);
  pugi::xml_document xml;
  xml.load_string(response.body.c_str());
  upload_id_ = xml.child("InitiateMultipartUploadResult").child_value("UploadId");
  if (upload_id_.empty()) return Status::Io("the store gave no upload id for " + key_);
  return Status::Ok();
}

Status S3Upload::SendPart() {
  if (upload_id_.empty()) HEADRACE_TRY(Begin());
  if (sending_.size() == kPartsInFlight) HEADRACE_TRY(AwaitPart());
  auto part = std::make_unique<Part>();
  part->bytes = std::exchange(buffer_, {});
  const size_t number = etags_.size() + sending_.size() + 1;
  part->call = {
      "PUT", key_, {{"partNumber", std::to_string(number)}, {"uploadId", upload_id_}}, {}, part->bytes};
  HEADRACE_ASSIGN(part->sent, client_->Start(part->call));
  sending_.push_back(std::move(part));
  return Status::Ok();
}

Status S3Upload::AwaitPart() {
  const std::unique_ptr<Part> part = std::move(sending_.front());
  sending_.pop_front();
  HEADRACE_ASSIGN(const auto response, client_->Run(part->call, nullptr, &part->sent));
  if (response.status / 100 != 2) return client_->Failure(part->call, response);
  const auto etag = response.headers.find("etag");
  if (etag == response.headers.end()) return Status::Io("the store gave no ETag for a part of " + key_);
  etags_.push_back(etag->second);
  return Status::Ok();
}

Status S3Upload::Complete() {
  pugi::xml_document request;
  auto root = request.append_child("CompleteMultipartUpload");
  for (size_t i = 0; i < etags_.size(); ++i) {
    auto part = root.append_child("Part");
    part.append_child("PartNumber").text().set(std::to_string(i + 1).c_str());
    part.append_child("ETag").text().set(etags_[i].c_str());
  }
  struct : pugi::xml_writer {
    std::string text;
    void write(const void* data, size_t size) override { text.append(static_cast<const char*>(data), size); }
  } xml;
  request.save(xml, "", pugi::format_raw);
  const S3Call call{"POST", key_, {{"uploadId", upload_id_}}, {IfAbsent()}, xml.text};
  bool lost = false;
  HEADRACE_ASSIGN(const auto response, client_->Run(call, &lost));
  // S3 may answer 200 with an error inside.
  const bool done = response.status / 100 == 2 && response.body.find("<Error>") == std::string::npos;
  if (!done) {
    // The answer to an earlier attempt was lost: the upload is gone, and the object is there. Its key is
    // fresh, or named after what it holds: an object as long as ours is ours.
    const bool ended = response.status == 404 || response.status == 412;
    if (!lost || !ended) return client_->Failure(call, response);
    const S3Call head{"HEAD", key_, {}, {}, {}};
    HEADRACE_ASSIGN(const auto there, client_->Run(head));
    const auto length = there.headers.find("content-length");
    if (there.status != 200 || length == there.headers.end() || length->second != std::to_string(written_))
      return client_->Failure(call, response);
  }
  upload_id_.clear();
  return Status::Ok();
}

Status AbortUpload(S3Client* client, const std::string& key, const std::string& id) {
  const S3Call call{"DELETE", key, {{"uploadId", id}}, {}, {}};
  HEADRACE_ASSIGN(const auto response, client->Run(call));
  return response.status / 100 == 2 || response.status == 404 ? Status::Ok()
                                                              : client->Failure(call, response);
}

Result<std::vector<StrayUpload>> ListUploads(S3Client* client) {
  const std::string& own = client->config().prefix;
  std::vector<StrayUpload> found;
  std::string key_marker;
  std::string id_marker;
  for (;;) {
    S3Query query = {{"uploads", ""}, {"prefix", own}};
    if (!key_marker.empty()) query.emplace_back("key-marker", key_marker);
    if (!id_marker.empty()) query.emplace_back("upload-id-marker", id_marker);
    const S3Call call{"GET", "", query, {}, {}};
    HEADRACE_ASSIGN(const auto response, client->Run(call));
    if (response.status != 200) return client->Failure(call, response);
    pugi::xml_document xml;
    const auto root =
        xml.load_string(response.body.c_str()) ? xml.child("ListMultipartUploadsResult") : pugi::xml_node();
    if (!root) return Status::Io("the store's list of uploads is none");
    for (const auto& entry : root.children("Upload")) {
      const std::string key = entry.child_value("Key");
      if (!key.starts_with(own)) continue;  // a server that ignores the prefix
      const auto begun = ParseMicros(entry.child_value("Initiated"));
      found.push_back({key.substr(own.size()), entry.child_value("UploadId"), begun.ok() ? *begun : 0});
    }
    if (std::strcmp(root.child_value("IsTruncated"), "true") != 0) return found;
    key_marker = root.child_value("NextKeyMarker");
    id_marker = root.child_value("NextUploadIdMarker");
    if (key_marker.empty())
      return Status::Io("the store cut a list of uploads short, and does not say how to go on");
  }
}

}  // namespace headrace::store
