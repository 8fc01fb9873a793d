// The end of a Parquet file, which everything else in it is found by: its page indexes and its footer. Pages
// carry checksums, the end does not, so its sum stands in the manifest.
#pragma once

#include <arrow/io/interfaces.h>
#include <arrow/result.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "store/object_store.h"
#include "table/fragment.h"

namespace headrace::table {

// `end`: the last bytes of a file of `file_bytes`, all of the tail among them.
Result<ParquetTail> TailOf(std::string_view end, int64_t file_bytes);

// Passes on to `sink` and, from Keep() on, keeps what is written.
class KeepingStream final : public arrow::io::OutputStream {
 public:
  explicit KeepingStream(std::shared_ptr<arrow::io::OutputStream> sink) : sink_(std::move(sink)) {}
  void Keep() { keeping_ = true; }
  const std::string& kept() const { return kept_; }
  arrow::Status Close() override { return sink_->Close(); }
  bool closed() const override { return sink_->closed(); }
  arrow::Result<int64_t> Tell() const override { return sink_->Tell(); }
  arrow::Status Write(const void* data, int64_t bytes) override {
    if (keeping_) kept_.append(static_cast<const char*>(data), static_cast<size_t>(bytes));
    return sink_->Write(data, bytes);
  }

 private:
  std::shared_ptr<arrow::io::OutputStream> sink_;
  bool keeping_ = false;
  std::string kept_;
};

// The file with its tail read once and checked (Corrupt where its sum is another's); reads of it are served
// from there.
Result<std::shared_ptr<store::ObjectReader>> CheckTail(std::shared_ptr<store::ObjectReader> file,
                                                       const ParquetTail& tail);

}  // namespace headrace::table
