#include "ingest/item_reader.h"

#include <arrow/type.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "ingest/csv_reader.h"
#include "ingest/json_reader.h"
#include "ingest/parquet_reader.h"
#include "table/type_arrow.h"

namespace headrace::ingest {
namespace {

class ParquetItemReader final : public ItemReader {
 public:
  std::vector<std::string_view> formats() const override { return {"parquet"}; }
  std::vector<std::string_view> endings() const override { return {".parquet"}; }
  Result<std::shared_ptr<arrow::RecordBatchReader>> Open(const FoundFile& file,
                                                         const std::vector<table::Field>&,
                                                         RunState*) const override {
    return OpenParquet(file.path);
  }
};

class JsonItemReader final : public ItemReader {
 public:
  std::vector<std::string_view> formats() const override { return {"json", "jsonl"}; }
  std::vector<std::string_view> endings() const override { return {".jsonl", ".ndjson", ".json"}; }
  Result<std::shared_ptr<arrow::RecordBatchReader>> Open(const FoundFile& file,
                                                         const std::vector<table::Field>& given,
                                                         RunState* run) const override {
    return OpenJson({.path = file.path,
                     .name = file.relative,
                     .encoding = run->options.encoding,
                     .given = given,
                     .pool = &run->catalog->environment()->pool,
                     .stop = run->options.stop},
                    &run->report.errors);
  }
};

class CsvItemReader final : public ItemReader {
 public:
  std::vector<std::string_view> formats() const override { return {"csv"}; }
  std::vector<std::string_view> endings() const override { return {".csv", ".tsv"}; }
  Result<std::shared_ptr<arrow::RecordBatchReader>> Open(const FoundFile& file,
                                                         const std::vector<table::Field>& given,
                                                         RunState* run) const override {
    const IngestOptions& options = run->options;
    arrow::FieldVector wanted;
    for (const auto& field : given) wanted.push_back(table::ToArrow(field));
    return OpenCsv(file.path, file.relative,
                   {.delimiter = options.delimiter,
                    .encoding = options.encoding,
                    .names = options.names,
                    .header = options.header.value_or(options.names.empty())},
                   *arrow::schema(wanted), &run->report.errors);
  }
};

const ParquetItemReader kParquet;
const JsonItemReader kJson;
const CsvItemReader kCsv;
constexpr std::array<const ItemReader*, 3> kReaders = {&kParquet, &kJson, &kCsv};

bool EndsWith(std::string_view path, std::string_view end) {
  return path.size() >= end.size() &&
         std::equal(end.begin(), end.end(), path.end() - static_cast<std::ptrdiff_t>(end.size()),
                    [](char a, char b) { return a == tolower(static_cast<unsigned char>(b)); });
}

}  // namespace

const ItemReader& JsonItems() { return kJson; }

const ItemReader* ItemReaderOf(std::string_view format) {
  for (const ItemReader* reader : kReaders) {
    for (const std::string_view name : reader->formats()) {
      if (name == format) return reader;
    }
  }
  return nullptr;
}

const ItemReader* ItemReaderFor(std::string_view path) {
  for (const ItemReader* reader : kReaders) {
    for (const std::string_view end : reader->endings()) {
      if (EndsWith(path, end)) return reader;
    }
  }
  return nullptr;
}

std::vector<std::string_view> Formats() {
  std::vector<std::string_view> all = {"images"};
  for (const ItemReader* reader : kReaders) {
    for (const std::string_view name : reader->formats()) all.push_back(name);
  }
  return all;
}

}  // namespace headrace::ingest
