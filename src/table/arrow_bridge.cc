#include "table/arrow_bridge.h"

#include <arrow/array.h>
#include <arrow/type.h>

#include <cstring>
#include <mutex>

namespace headrace::table {
namespace {

// Carries our Status through Arrow's, so that a store's error comes out as it went in.
class StatusDetail final : public arrow::StatusDetail {
 public:
  explicit StatusDetail(Status status) : status_(std::move(status)) {}
  const char* type_id() const override { return "headrace::Status"; }
  std::string ToString() const override { return status_.ToString(); }
  const Status& status() const { return status_; }

 private:
  Status status_;
};

class OwnedBuffer final : public arrow::Buffer {
 public:
  explicit OwnedBuffer(store::Bytes bytes)
      : arrow::Buffer(bytes.data(), bytes.size()), bytes_(std::move(bytes)) {}

 private:
  store::Bytes bytes_;
};

class ReaderFile final : public arrow::io::RandomAccessFile {
 public:
  explicit ReaderFile(std::shared_ptr<store::ObjectReader> reader) : reader_(std::move(reader)) {}
  ~ReaderFile() override = default;

  arrow::Status Close() override {
    closed_ = true;
    return arrow::Status::OK();
  }
  bool closed() const override { return closed_; }
  arrow::Result<int64_t> Tell() const override { return position_; }
  arrow::Status Seek(int64_t position) override {
    position_ = position;
    return arrow::Status::OK();
  }
  arrow::Result<int64_t> GetSize() override { return reader_->size(); }

  arrow::Result<std::shared_ptr<arrow::Buffer>> ReadAt(int64_t position, int64_t bytes) override {
    const int64_t length = std::max<int64_t>(0, std::min(bytes, reader_->size() - position));
    auto read = reader_->Read(position, length);
    if (!read.ok()) return table::ToArrow(read.status());
    return ToBuffer(std::move(read).value());
  }
  arrow::Result<int64_t> ReadAt(int64_t position, int64_t bytes, void* out) override {
    ARROW_ASSIGN_OR_RAISE(auto buffer, ReadAt(position, bytes));
    if (buffer->size() > 0) std::memcpy(out, buffer->data(), static_cast<size_t>(buffer->size()));
    return buffer->size();
  }
  arrow::Result<int64_t> Read(int64_t bytes, void* out) override {
    ARROW_ASSIGN_OR_RAISE(const int64_t got, ReadAt(position_, bytes, out));
    position_ += got;
    return got;
  }
  arrow::Result<std::shared_ptr<arrow::Buffer>> Read(int64_t bytes) override {
    ARROW_ASSIGN_OR_RAISE(auto buffer, ReadAt(position_, bytes));
    position_ += buffer->size();
    return buffer;
  }

 private:
  std::shared_ptr<store::ObjectReader> reader_;
  int64_t position_ = 0;
  bool closed_ = false;
};

class UploadStream final : public arrow::io::OutputStream {
 public:
  explicit UploadStream(store::Upload* upload) : upload_(upload) {}
  ~UploadStream() override = default;
  arrow::Status Close() override {
    closed_ = true;
    return arrow::Status::OK();
  }
  bool closed() const override { return closed_; }
  arrow::Result<int64_t> Tell() const override { return position_; }
  arrow::Status Write(const void* data, int64_t bytes) override {
    position_ += bytes;
    return table::ToArrow(upload_->Append({static_cast<const char*>(data), static_cast<size_t>(bytes)}));
  }

 private:
  store::Upload* upload_;
  int64_t position_ = 0;
  bool closed_ = false;
};

}  // namespace

Status FromArrow(const arrow::Status& status) {
  if (status.ok()) return Status::Ok();
  if (status.detail() && std::strcmp(status.detail()->type_id(), "headrace::Status") == 0) {
    return static_cast<const StatusDetail&>(*status.detail()).status();
  }
  if (status.IsCancelled()) return Status::Cancelled();
  if (status.IsOutOfMemory() || status.IsCapacityError()) return Status::Limit(status.message());
  if (status.IsNotImplemented()) return Status::Unsupported(status.message());
  if (status.IsIOError() || status.IsSerializationError()) return Status::Corrupt(status.message());
  return Status::Invalid(status.message());
}

arrow::Status ToArrow(const Status& status) {
  if (status.ok()) return arrow::Status::OK();
  return arrow::Status(arrow::StatusCode::IOError, status.ToString(), std::make_shared<StatusDetail>(status));
}

std::shared_ptr<arrow::Buffer> ToBuffer(store::Bytes bytes) {
  return std::make_shared<OwnedBuffer>(std::move(bytes));
}

std::shared_ptr<arrow::io::RandomAccessFile> ToRandomAccessFile(std::shared_ptr<store::ObjectReader> reader) {
  return std::make_shared<ReaderFile>(std::move(reader));
}

std::shared_ptr<arrow::io::OutputStream> ToOutputStream(store::Upload* upload) {
  return std::make_shared<UploadStream>(upload);
}

namespace {

std::shared_ptr<arrow::ArrayData> DataWithType(const arrow::ArrayData& data,
                                               const std::shared_ptr<arrow::DataType>& type) {
  auto typed = data.Copy();
  typed->type = type;
  for (size_t i = 0; i < typed->child_data.size(); ++i)
    typed->child_data[i] = DataWithType(*typed->child_data[i], type->field(static_cast<int>(i))->type());
  return typed;
}

}  // namespace

std::shared_ptr<arrow::Array> WithType(const std::shared_ptr<arrow::Array>& array,
                                       const std::shared_ptr<arrow::DataType>& type) {
  return type->num_fields() == 0 ? array : arrow::MakeArray(DataWithType(*array->data(), type));
}

}  // namespace headrace::table
