#include "ingest/readers.h"

#include <arrow/io/file.h>
#include <arrow/io/memory.h>
#include <arrow/json/api.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/limits.h"
#include "table/arrow_bridge.h"

namespace headrace::ingest {
namespace {

using table::FromArrow;

constexpr size_t kChunkBytes = 64 << 20;

// Whole lines of a file, some tens of megabytes at a time; lines beyond the limit are reported and left out.
class LineChunks {
 public:
  static Result<std::unique_ptr<LineChunks>> Open(const std::string& path, std::string name) {
    auto chunks = std::make_unique<LineChunks>();
    chunks->name_ = std::move(name);
    chunks->path_ = path;
    chunks->file_ = path == "-" ? stdin : std::fopen(path.c_str(), "rb");
    if (chunks->file_ == nullptr) return Status::FromErrno(errno, "read", path);
    return chunks;
  }
  ~LineChunks() {
    if (file_ != nullptr && file_ != stdin) std::fclose(file_);
  }

  int64_t first_line() const { return first_line_; }

  // False at the end. Every line of `*text` ends in '\n'.
  Result<bool> Next(std::string* text, std::vector<IngestError>* errors) {
    first_line_ = next_line_;
    text->clear();
    while (text->size() < kChunkBytes && !done_) HEADRACE_TRY(Line(text, errors));
    return !text->empty();
  }

 private:
  Status Line(std::string* text, std::vector<IngestError>* errors) {
    std::string line;
    bool too_long = false;
    for (;;) {
      if (at_ == have_) {
        have_ = std::fread(buffer_.data(), 1, buffer_.size(), file_);
        at_ = 0;
        if (have_ == 0) {
          if (std::ferror(file_)) return Status::FromErrno(errno, "read", path_);
          done_ = true;
          break;
        }
      }
      const auto* begin = buffer_.data() + at_;
      const auto* end = static_cast<const char*>(std::memchr(begin, '\n', have_ - at_));
      const size_t n = end == nullptr ? have_ - at_ : static_cast<size_t>(end - begin) + 1;
      if (static_cast<int64_t>(line.size() + n) > limits::kMaxJsonLineBytes) {
        too_long = true;
        line.clear();
      }
      if (!too_long) line.append(begin, n);
      at_ += n;
      if (end != nullptr) break;
    }
    if (too_long) {
      errors->push_back(
          {name_ + ":" + std::to_string(next_line_),
           Status::Limit("the line has more than " + std::to_string(limits::kMaxJsonLineBytes) + " bytes")});
      *text += '\n';  // its number stays
    } else if (!line.empty()) {
      if (line.back() != '\n') line += '\n';
      *text += line;
    }
    if (!line.empty() || too_long) ++next_line_;
    return Status::Ok();
  }

  std::string path_;
  std::string name_;
  FILE* file_ = nullptr;
  std::string buffer_ = std::string(1 << 20, '\0');
  size_t at_ = 0;
  size_t have_ = 0;
  bool done_ = false;
  int64_t first_line_ = 1;
  int64_t next_line_ = 1;
};

Result<std::shared_ptr<arrow::Table>> ParseJson(const std::string& text,
                                                const std::shared_ptr<arrow::Schema>& schema) {
  auto input = std::make_shared<arrow::io::BufferReader>(arrow::Buffer::Wrap(text.data(), text.size()));
  auto read = arrow::json::ReadOptions::Defaults();
  read.use_threads = true;
  read.block_size = 8 << 20;
  // A line may be longer than the usual block.
  size_t longest = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    longest = std::max(longest, end - at);
    at = end + 1;
  }
  read.block_size = static_cast<int32_t>(std::max<size_t>(1 << 20, longest + 16));
  auto parse = arrow::json::ParseOptions::Defaults();
  parse.explicit_schema = schema;
  parse.unexpected_field_behavior =
      schema ? arrow::json::UnexpectedFieldBehavior::Ignore : arrow::json::UnexpectedFieldBehavior::InferType;
  HEADRACE_ARROW_ASSIGN(const auto reader,
                        arrow::json::TableReader::Make(arrow::default_memory_pool(), input, read, parse));
  HEADRACE_ARROW_ASSIGN(auto result, reader->Read());
  return result;
}

// The parser's words without its name for the error and its line, which is always 1.
std::string InWords(std::string text) {
  if (text.starts_with("[json.exception")) text.erase(0, text.find("] ") + 2);
  const std::string_view place = "parse error at line 1, column ";
  if (text.starts_with(place)) text.replace(0, place.size(), "it is not JSON: column ");
  return text;
}

// Leaves out the lines that are no JSON objects, and reports them.
std::string GoodLines(const std::string& text, const std::string& name, int64_t first_line,
                      std::vector<IngestError>* errors) {
  std::string good;
  int64_t number = first_line;
  for (size_t at = 0; at < text.size(); ++number) {
    const size_t end = text.find('\n', at);
    const std::string_view line(text.data() + at, end - at);
    at = end + 1;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    try {
      const auto parsed = nlohmann::json::parse(line);
      if (!parsed.is_object()) throw std::invalid_argument("it is not a JSON object");
      good.append(line).append("\n");
    } catch (const std::exception& error) {
      errors->push_back({name + ":" + std::to_string(number), Status::Corrupt(InWords(error.what()))});
    }
  }
  return good;
}

bool AllBlank(const std::string& text) { return text.find_first_not_of(" \t\r\n") == std::string::npos; }

// Chunk by chunk; every chunk is parsed whole, so that a bad line costs only itself.
class JsonReader final : public arrow::RecordBatchReader {
 public:
  JsonReader(std::unique_ptr<LineChunks> chunks, std::string name, std::vector<IngestError>* errors)
      : chunks_(std::move(chunks)), name_(std::move(name)), errors_(errors) {}

  Status Begin(std::shared_ptr<arrow::Schema> schema) {
    schema_ = std::move(schema);
    if (!schema_) {  // one chunk: parse it now, and learn the schema from it
      HEADRACE_TRY(Load());
      schema_ = table_ ? table_->schema() : arrow::schema({});
    }
    return Status::Ok();
  }
  std::shared_ptr<arrow::Schema> schema() const override { return schema_; }
  arrow::Status ReadNext(std::shared_ptr<arrow::RecordBatch>* batch) override {
    for (;;) {
      *batch = nullptr;
      if (batches_) {
        ARROW_RETURN_NOT_OK(batches_->ReadNext(batch));
        if (*batch) return arrow::Status::OK();
        batches_ = nullptr;
        table_ = nullptr;
      }
      const Status loaded = Load();
      if (!loaded.ok()) return table::ToArrow(loaded);
      if (!table_) return arrow::Status::OK();
    }
  }

 private:
  Status Load() {
    std::string text;
    for (;;) {
      HEADRACE_ASSIGN(const bool more, chunks_->Next(&text, errors_));
      if (!more) return Status::Ok();
      if (!AllBlank(text)) break;
    }
    auto parsed = ParseJson(text, schema_);
    if (!parsed.ok()) {
      const std::string good = GoodLines(text, name_, chunks_->first_line(), errors_);
      if (AllBlank(good)) return Load();
      parsed = ParseJson(good, schema_);
    }
    if (!parsed.ok()) return parsed.status();
    table_ = *parsed;
    batches_ = std::make_unique<arrow::TableBatchReader>(*table_);
    return Status::Ok();
  }

  std::unique_ptr<LineChunks> chunks_;
  std::string name_;
  std::vector<IngestError>* errors_;
  std::shared_ptr<arrow::Schema> schema_;
  std::shared_ptr<arrow::Table> table_;
  std::unique_ptr<arrow::TableBatchReader> batches_;
};

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

Result<std::shared_ptr<arrow::RecordBatchReader>> OpenJsonl(const std::string& path, const std::string& name,
                                                            std::vector<IngestError>* errors) {
  std::shared_ptr<arrow::Schema> schema;
  if (path != "-") {
    // A file of several chunks is read twice: the schema has to hold for all of them.
    HEADRACE_ASSIGN(const auto probe, LineChunks::Open(path, name));
    std::vector<IngestError> ignored;
    std::string text;
    HEADRACE_ASSIGN(bool more, probe->Next(&text, &ignored));
    if (more && text.size() >= kChunkBytes) {
      while (more) {
        auto parsed = ParseJson(text, nullptr);
        if (!parsed.ok()) {
          const std::string good = GoodLines(text, name, probe->first_line(), &ignored);
          if (!AllBlank(good)) {
            parsed = ParseJson(good, nullptr);
            if (!parsed.ok()) return parsed.status();
          }
        }
        if (parsed.ok()) {
          if (!schema) {
            schema = (*parsed)->schema();
          } else {
            HEADRACE_ARROW_ASSIGN(schema, arrow::UnifySchemas({schema, (*parsed)->schema()},
                                                              arrow::Field::MergeOptions::Permissive()));
          }
        }
        HEADRACE_ASSIGN(more, probe->Next(&text, &ignored));
      }
    }
  }
  HEADRACE_ASSIGN(auto chunks, LineChunks::Open(path, name));
  auto reader = std::make_shared<JsonReader>(std::move(chunks), name, errors);
  HEADRACE_TRY(reader->Begin(schema));
  return std::shared_ptr<arrow::RecordBatchReader>(reader);
}

Result<std::shared_ptr<arrow::RecordBatchReader>> OpenParquet(const std::string& path) {
  try {
    HEADRACE_ARROW_ASSIGN(auto file, arrow::io::ReadableFile::Open(path));
    parquet::arrow::FileReaderBuilder builder;
    HEADRACE_ARROW_TRY(builder.Open(file));
    parquet::ArrowReaderProperties properties;
    properties.set_batch_size(limits::kRowGroupRows);
    properties.set_pre_buffer(false);
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
