#include "ingest/parquet_reader.h"

#include <arrow/io/file.h>
#include <arrow/record_batch.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>

#include "base/limits.h"
#include "table/arrow_bridge.h"

namespace headrace::ingest {
namespace {

// Keeps the file reader alive as long as its batches are read.
class ParquetBatches final : public arrow::RecordBatchReader {
 public:
  ParquetBatches(std::unique_ptr<parquet::arrow::FileReader> file,
                 std::unique_ptr<arrow::RecordBatchReader> batches)
      : file_(std::move(file)), batches_(std::move(batches)) {}
  std::shared_ptr<arrow::Schema> schema() const override { return batches_->schema(); }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    try {
      return batches_->ReadNext(batch);
    } catch (const std::exception& error) {
      return arrow::Status::IOError(error.what());
    }
  }

 private:
  std::unique_ptr<parquet::arrow::FileReader> file_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
};

}  // namespace

Result<std::shared_ptr<arrow::RecordBatchReader>> OpenParquet(const std::string& path) {
  try {
    HEADRACE_ARROW_ASSIGN(auto file, arrow::io::ReadableFile::Open(path));
    parquet::arrow::FileReaderBuilder builder;
    HEADRACE_ARROW_TRY(builder.Open(file));
    parquet::ArrowReaderProperties properties;
    properties.set_batch_size(limits::kRowGroupRows);
    properties.set_pre_buffer(false);
    properties.set_arrow_extensions_enabled(true);  // Parquet's JSON and UUID are ours
    std::unique_ptr<parquet::arrow::FileReader> reader;
    HEADRACE_ARROW_TRY(builder.properties(properties)->Build(&reader));
    HEADRACE_ARROW_ASSIGN(auto batches, reader->GetRecordBatchReader());
    return std::shared_ptr<arrow::RecordBatchReader>(
        std::make_shared<ParquetBatches>(std::move(reader), std::move(batches)));
  } catch (const std::exception& error) {
    return Status::Corrupt(error.what());
  }
}

}  // namespace headrace::ingest
