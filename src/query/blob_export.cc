#include "query/blob_export.h"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/writer.h>
#include <sys/stat.h>
#include <unistd.h>

#include "table/arrow_bridge.h"
#include "table/blob_cells.h"
#include "table/conform.h"
#include "table/type_arrow.h"

namespace headrace::query {
namespace {

constexpr int64_t kBytesAtOnce = 32 << 20;
constexpr int64_t kRowsAtOnce = 64 << 10;

// How many rows from `begin` on hold about kBytesAtOnce in packs; at least one.
Result<int64_t> RowsThatFit(const arrow::RecordBatch& batch, const std::vector<int>& blobs, int64_t begin) {
  std::vector<table::BlobCells> cells;
  for (const int column : blobs) {
    HEADRACE_ASSIGN(auto one, table::BlobCells::Of(batch.column(column)));
    cells.push_back(std::move(one));
  }
  int64_t bytes = 0;
  int64_t row = begin;
  while (row < batch.num_rows() && row - begin < kRowsAtOnce && bytes < kBytesAtOnce) {
    for (const auto& one : cells) bytes += !one.IsNull(row) && one.IsPacked(row) ? one.PackedBytes(row) : 0;
    ++row;
  }
  return row - begin;
}

// SQL's intervals as durations, which keep microseconds (Parquet's own intervals end at milliseconds).
table::Field DurationField(const std::string& name) {
  table::Field field;
  field.name = name;
  field.type.kind = table::Kind::kDuration;
  return field;
}

bool IsInterval(const arrow::Field& field) {
  return field.type()->id() == arrow::Type::INTERVAL_MONTH_DAY_NANO;
}

std::shared_ptr<arrow::Schema> WithDurations(const arrow::Schema& schema) {
  arrow::FieldVector fields;
  for (const auto& field : schema.fields())
    fields.push_back(IsInterval(*field) ? table::ToArrow(DurationField(field->name())) : field);
  return arrow::schema(fields);
}

Result<std::shared_ptr<arrow::RecordBatch>> WithDurations(std::shared_ptr<arrow::RecordBatch> batch) {
  const auto schema = batch->schema();
  for (int i = 0; i < batch->num_columns(); ++i) {
    if (!IsInterval(*schema->field(i))) continue;
    const auto field = DurationField(schema->field(i)->name());
    HEADRACE_ASSIGN(const auto column, table::ConformArray(batch->column(i), field));
    HEADRACE_ARROW_ASSIGN(batch, batch->SetColumn(i, table::ToArrow(field), column));
  }
  return batch;
}

Result<int64_t> Write(arrow::RecordBatchReader* rows, store::ObjectStore* store,
                      arrow::io::OutputStream* file, const StopToken& stop) {
  std::vector<int> blobs;
  for (int i = 0; i < rows->schema()->num_fields(); ++i) {
    if (table::HasBlobShape(*rows->schema()->field(i)->type())) blobs.push_back(i);
  }
  const auto properties =
      parquet::WriterProperties::Builder().compression(parquet::Compression::SNAPPY)->build();
  const auto types = parquet::ArrowWriterProperties::Builder().store_schema()->build();
  HEADRACE_ARROW_ASSIGN(const auto writer,
                        parquet::arrow::FileWriter::Open(
                            *WithDurations(*rows->schema()), arrow::default_memory_pool(),
                            std::shared_ptr<arrow::io::OutputStream>(file, [](auto*) {}), properties, types));
  const auto open = [&](const std::string& key) { return store->Open(key); };
  int64_t written = 0;
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(rows->ReadNext(&batch));
    if (!batch) break;
    HEADRACE_ASSIGN(batch, WithDurations(std::move(batch)));
    for (int64_t begin = 0; begin < batch->num_rows();) {
      HEADRACE_TRY(stop.Check());
      HEADRACE_ASSIGN(const int64_t count, RowsThatFit(*batch, blobs, begin));
      auto part = batch->Slice(begin, count);
      for (const int column : blobs) {
        HEADRACE_ASSIGN(const auto filled, table::WithBytes(part->column(column), open));
        HEADRACE_ARROW_ASSIGN(part, part->SetColumn(column, part->schema()->field(column), filled));
      }
      HEADRACE_ARROW_TRY(writer->WriteTable(*arrow::Table::FromRecordBatches({part}).ValueOrDie(), count));
      begin += count;
      written += count;
    }
  }
  HEADRACE_ARROW_TRY(writer->Close());
  HEADRACE_ARROW_TRY(file->Close());
  return written;
}

}  // namespace

Result<int64_t> WriteParquetWithBytes(arrow::RecordBatchReader* rows, store::ObjectStore* store,
                                      const std::string& path, const StopToken& stop) {
  HEADRACE_ARROW_ASSIGN(const auto file, arrow::io::FileOutputStream::Open(path));
  Result<int64_t> written = Status::Io("not written");
  try {
    written = Write(rows, store, file.get(), stop);
  } catch (const std::exception& error) {
    written = Status::Io(std::string("cannot write ") + path + ": " + error.what());
  }
  struct stat info {};
  if (!written.ok() && stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode)) unlink(path.c_str());
  return written;
}

}  // namespace headrace::query
