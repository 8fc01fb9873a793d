// An object that is put in parts: one PUT where it is small, else a multipart upload
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html) with several parts on their way.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "store/object_store.h"
#include "store/s3_client.h"

namespace headrace::store {

class S3Upload final : public Upload {
 public:
  S3Upload(std::shared_ptr<S3Client> client, std::string key)
      : client_(std::move(client)), key_(std::move(key)) {}
  ~S3Upload() override;

  Status Append(std::string_view bytes) override;
  // AlreadyExists if any object has this key.
  Status Commit() override;

 private:
  struct Part {
    std::string bytes;
    S3Call call;
    S3Client::Sent sent;
  };
  int64_t PartBytes() const;
  Status PutWhole();
  Status Begin();
  Status SendPart();
  Status AwaitPart();  // the oldest
  Status Complete();

  std::shared_ptr<S3Client> client_;
  std::string key_;
  std::string buffer_;
  std::string upload_id_;
  std::deque<std::unique_ptr<Part>> sending_;
  std::vector<std::string> etags_;  // of the parts that have arrived
};

// Uploads that were begun under the store's prefix and neither completed nor aborted.
struct StrayUpload {
  std::string key;  // under the prefix
  std::string id;
  int64_t begun_us = 0;
};
Result<std::vector<StrayUpload>> ListUploads(S3Client* client);
Status AbortUpload(S3Client* client, const std::string& key, const std::string& id);

}  // namespace headrace::store
