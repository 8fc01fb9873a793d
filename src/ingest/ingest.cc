#include "ingest/ingest.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <sys/stat.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <future>
#include <random>
#include <set>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "ingest/readers.h"
#include "ingest/walk.h"
#include "media/media.h"
#include "table/arrow_bridge.h"
#include "table/conform.h"

namespace headrace::ingest {
namespace {

using table::Field;
using table::Kind;
using table::Schema;
using table::Table;

constexpr int64_t kMaxImageBytes = int64_t{1} << 30;  // of one photograph's file
constexpr int64_t kBatchBytes = 8 << 20;  // small enough that the allocator's warm pages serve again
constexpr int64_t kAheadBytes = 32 << 20;

Schema PhotoSchema() {
  Schema schema;
  Field path, image, taken;
  path.name = "path";
  path.type.kind = Kind::kString;
  image.name = "image";
  image.type.kind = Kind::kBlob;
  image.type.children = table::BlobFields();
  taken.name = "taken";
  taken.type.kind = Kind::kTimestamp;
  schema.fields = {path, image, taken};
  return schema;
}

struct Photo {
  std::string bytes;
  media::ImageFacts facts;
};

Result<Photo> ReadPhoto(const FoundFile& file) {
  if (file.bytes > kMaxImageBytes) {
    return Status::Limit("the file has " + std::to_string(file.bytes) + " bytes; a photograph has at most " +
                         std::to_string(kMaxImageBytes));
  }
  std::ifstream in(file.path, std::ios::binary);
  if (!in) return Status::FromErrno(errno, "read", file.path);
  Photo photo;
  photo.bytes.resize(static_cast<size_t>(file.bytes));
  in.read(photo.bytes.data(), file.bytes);
  if (in.gcount() != file.bytes) return Status::Io(file.path + " became shorter while it was read");
  HEADRACE_ASSIGN(photo.facts, media::ProbeImage(photo.bytes));
  return photo;
}

// The columns of PhotoSchema, row by row.
class PhotoBatch {
 public:
  Status Add(const std::string& path, Photo photo) {
    if (rows_ == 0)
      HEADRACE_ARROW_TRY(inline_.ReserveData(kBatchBytes + static_cast<int64_t>(photo.bytes.size())));
    HEADRACE_ARROW_TRY(path_.Append(path));
    HEADRACE_ARROW_TRY(inline_.Append(photo.bytes));
    HEADRACE_ARROW_TRY(media_type_.Append(photo.facts.media_type));
    HEADRACE_ARROW_TRY(width_.Append(photo.facts.width));
    HEADRACE_ARROW_TRY(height_.Append(photo.facts.height));
    HEADRACE_ARROW_TRY(orientation_.Append(photo.facts.orientation));
    HEADRACE_ARROW_TRY(photo.facts.taken_us ? taken_.Append(*photo.facts.taken_us) : taken_.AppendNull());
    bytes_ += static_cast<int64_t>(photo.bytes.size());
    ++rows_;
    return Status::Ok();
  }
  int64_t bytes() const { return bytes_; }
  int64_t rows() const { return rows_; }

  Result<std::shared_ptr<arrow::RecordBatch>> Finish() {
    HEADRACE_ARROW_ASSIGN(const auto path, path_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto bytes, inline_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto media_type, media_type_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto width, width_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto height, height_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto orientation, orientation_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto taken, taken_.Finish());
    HEADRACE_ARROW_ASSIGN(const auto image, arrow::StructArray::Make(
                                                {bytes, media_type, width, height, orientation},
                                                {"inline", "media_type", "width", "height", "orientation"}));
    const auto schema =
        arrow::schema({arrow::field("path", path->type()), arrow::field("image", image->type()),
                       arrow::field("taken", taken->type())});
    const auto batch = arrow::RecordBatch::Make(schema, rows_, {path, image, taken});
    rows_ = bytes_ = 0;
    return batch;
  }

 private:
  arrow::StringBuilder path_, media_type_;
  arrow::BinaryBuilder inline_;
  arrow::Int32Builder width_, height_;
  arrow::Int8Builder orientation_;
  arrow::TimestampBuilder taken_{arrow::timestamp(arrow::TimeUnit::MICRO), arrow::default_memory_pool()};
  int64_t rows_ = 0;
  int64_t bytes_ = 0;
};

Result<std::set<std::string>> PathsIn(const Table& table) {
  std::set<std::string> paths;
  HEADRACE_ASSIGN(const auto view, table.At());
  HEADRACE_ASSIGN(const auto reader, view.Scan({.columns = {"path"}}));
  for (;;) {
    std::shared_ptr<arrow::RecordBatch> batch;
    HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
    if (!batch) return paths;
    const auto& column = static_cast<const arrow::StringArray&>(*batch->column(0));
    for (int64_t i = 0; i < column.length(); ++i) {
      if (column.IsValid(i)) paths.insert(column.GetString(i));
    }
  }
}

class Run {
 public:
  Run(table::Catalog* catalog, const IngestOptions& options) : catalog_(catalog), options_(options) {
    report_.table = options.table;
    commit_ = options.commit;
    commit_.stop = options.stop;
  }

  Result<IngestReport> Go(const std::vector<std::string>& sources) {
    const double start = MonotonicSeconds();
    std::vector<FoundFile> photos, data;
    for (const auto& source : sources) {
      if (source == "-") {
        data.push_back({"-", "stdin", options_.format == "csv" ? FileFormat::kCsv : FileFormat::kJsonl, 0});
        continue;
      }
      std::vector<FoundFile> found;
      HEADRACE_TRY(Walk(source, options_.format, &found, &report_.errors));
      for (auto& file : found) (file.format == FileFormat::kImage ? photos : data).push_back(std::move(file));
    }
    if (!photos.empty() && !data.empty()) {
      for (const auto& file : data) {
        Fail(file.relative,
             Status::Invalid("a data file among photographs; give it a table of its own: headrace ingest " +
                             file.path + " --table NAME"));
      }
      data.clear();
    }
    if (options_.shuffle) {
      if (photos.empty() && !data.empty()) {
        return Status::Invalid(
            "--shuffle is for photographs; rows are shuffled by SQL: headrace sql \"select * from " +
            options_.table + " order by random()\" --into NAME");
      }
      std::shuffle(photos.begin(), photos.end(), std::mt19937_64(0));
    }
    if (photos.empty() && data.empty() && report_.errors.empty()) {
      return Status::NotFound("there are no files in " + sources[0]);
    }
    if (!photos.empty()) HEADRACE_TRY(Photos(photos));
    for (const auto& file : data) HEADRACE_TRY(Data(file, static_cast<int64_t>(data.size())));
    if (options_.keep_errors && !report_.errors.empty()) HEADRACE_TRY(WriteErrors());
    report_.seconds = MonotonicSeconds() - start;
    return std::move(report_);
  }

 private:
  void Fail(const std::string& path, Status error) { report_.errors.push_back({path, std::move(error)}); }

  void Tell(const char* what, int64_t done, int64_t total, int64_t bytes) const {
    if (options_.progress) {
      options_.progress({what, done, total, bytes, static_cast<int64_t>(report_.errors.size())});
    }
  }

  Status Photos(const std::vector<FoundFile>& files) {
    HEADRACE_ASSIGN(const auto table, catalog_->OpenOrCreateTable(options_.table, PhotoSchema(), commit_));
    std::set<std::string> known;
    if (!options_.again) {
      HEADRACE_ASSIGN(known, PathsIn(*table));
    }
    HEADRACE_ASSIGN(const auto appender, table->StartAppend({"path", "image", "taken"}, commit_));

    // Files are read and probed ahead on all threads, and written here in order.
    TaskPool& pool = catalog_->environment()->pool;
    std::deque<std::pair<const FoundFile*, std::future<Result<Photo>>>> ahead;
    int64_t ahead_bytes = 0;
    PhotoBatch batch;
    const auto flush = [&]() -> Status {
      if (batch.rows() == 0) return Status::Ok();
      HEADRACE_ASSIGN(const auto rows, batch.Finish());
      return appender->Write(*rows);
    };
    size_t next = 0;
    int64_t done = 0;
    int64_t bytes = 0;
    Status failed;
    while (next < files.size() || !ahead.empty()) {
      while (failed.ok() && next < files.size() && ahead.size() < 64 &&
             (ahead.empty() || ahead_bytes < kAheadBytes)) {
        const FoundFile& file = files[next++];
        if (known.contains(Printable(file.relative))) {
          ++report_.skipped;
          ++done;
          continue;
        }
        ahead_bytes += file.bytes;
        ahead.emplace_back(&file, pool.Submit([&file] { return ReadPhoto(file); }));
      }
      if (ahead.empty()) break;
      const FoundFile& file = *ahead.front().first;
      Result<Photo> photo = ahead.front().second.get();
      ahead.pop_front();
      ahead_bytes -= file.bytes;
      ++done;
      if (!failed.ok()) continue;  // only waiting for what is under way
      failed = options_.stop.Check();
      if (!failed.ok()) continue;
      if (!photo.ok()) {
        Fail(file.relative, photo.status());
      } else {
        bytes += file.bytes;
        failed = batch.Add(Printable(file.relative), std::move(photo).value());
        if (failed.ok()) ++report_.files;
        if (failed.ok() && (batch.bytes() >= kBatchBytes || batch.rows() >= 4096)) failed = flush();
      }
      Tell("reading photographs", done, static_cast<int64_t>(files.size()), bytes);
    }
    HEADRACE_TRY(failed);
    HEADRACE_TRY(flush());
    if (appender->rows() == 0) return Status::Ok();
    Tell("committing", done, static_cast<int64_t>(files.size()), bytes);
    HEADRACE_ASSIGN(const auto committed, appender->Commit());
    report_.version = committed.version;
    report_.rows += committed.rows;
    report_.bytes += committed.bytes;
    return Status::Ok();
  }

  // A fault of the file is a row of the errors table; a fault of ours (disk, store, a stop) ends the run.
  static bool OfTheFile(const Status& status) {
    switch (status.code()) {
      case Code::kInvalid:
      case Code::kCorrupt:
      case Code::kUnsupported:
      case Code::kLimit:
      case Code::kAlreadyExists:
        return true;
      default:
        return false;
    }
  }

  Status Data(const FoundFile& file, int64_t total) {
    const Status taken = DataFile(file);
    Tell("reading files", ++data_done_, total, report_.bytes);
    if (taken.ok()) return taken;
    if (!OfTheFile(taken) && !(taken.Is(Code::kPermission) || taken.Is(Code::kNotFound))) return taken;
    Fail(file.relative, taken);
    return Status::Ok();
  }

  // Who appends a file's rows: its place, size and time of change. The same file is taken once, however often
  // the command is run or had to be run again.
  static std::string WriterOf(const FoundFile& file) {
    struct stat info {};
    if (file.path == "-" || stat(file.path.c_str(), &info) != 0) return "";
    char* real = realpath(file.path.c_str(), nullptr);
    const std::string place = real != nullptr ? real : file.path;
    free(real);
    return "file:" +
           Hex64(Xxh3(place + '\0' + std::to_string(info.st_size) + '\0' +
                      std::to_string(info.st_mtim.tv_sec) + '.' + std::to_string(info.st_mtim.tv_nsec)));
  }

  Status DataFile(const FoundFile& file) {
    if (file.path != "-" && file.bytes == 0) return Status::Corrupt("the file is empty");
    table::CommitOptions commit = commit_;
    if (!options_.again) commit.writer = WriterOf(file);
    if (!commit.writer.empty()) {
      commit.sequence = 0;
      const auto there = catalog_->OpenTable(options_.table);
      if (there.ok()) {
        HEADRACE_ASSIGN(const auto view, (*there)->At());
        if (view.snapshot().writers.contains(commit.writer)) {
          ++report_.skipped;
          return Status::Ok();
        }
      }
    }
    std::shared_ptr<arrow::RecordBatchReader> reader;
    switch (file.format) {
      case FileFormat::kParquet: {
        HEADRACE_ASSIGN(reader, OpenParquet(file.path));
        break;
      }
      case FileFormat::kCsv: {
        HEADRACE_ASSIGN(reader, OpenCsv(file.path));
        break;
      }
      default: {
        HEADRACE_ASSIGN(reader, OpenJsonl(file.path, file.relative, &report_.errors));
      }
    }
    // Columns without any value have no type: they are left out.
    std::vector<std::string> names;
    arrow::FieldVector typed;
    for (const auto& field : reader->schema()->fields()) {
      if (field->type()->id() == arrow::Type::NA) continue;
      names.push_back(field->name());
      typed.push_back(field);
    }
    if (names.empty()) return Status::Corrupt("it holds no columns with values");
    HEADRACE_ASSIGN(const Schema schema, table::SchemaFromArrow(*arrow::schema(typed)));
    HEADRACE_ASSIGN(const auto table, catalog_->OpenOrCreateTable(options_.table, schema, commit_));
    HEADRACE_ASSIGN(const auto view, table->At());
    std::vector<Field> fresh;
    for (const auto& field : schema.fields) {
      if (view.schema().Find(field.name) == nullptr) fresh.push_back(field);
    }
    if (!fresh.empty()) HEADRACE_TRY(table->AddEmptyColumns(fresh, commit_).status());
    HEADRACE_ASSIGN(const auto appender, table->StartAppend(names, commit));
    for (;;) {
      HEADRACE_TRY(options_.stop.Check());
      std::shared_ptr<arrow::RecordBatch> batch;
      HEADRACE_ARROW_TRY(reader->ReadNext(&batch));
      if (!batch) break;
      arrow::ArrayVector columns;
      for (const auto& name : names) columns.push_back(batch->GetColumnByName(name));
      HEADRACE_TRY(
          appender->Write(*arrow::RecordBatch::Make(arrow::schema(typed), batch->num_rows(), columns)));
      if (options_.progress) {
        options_.progress({"reading rows", report_.rows + appender->rows(), -1,
                           report_.bytes + appender->bytes(), static_cast<int64_t>(report_.errors.size())});
      }
    }
    if (appender->rows() == 0) return Status::Corrupt("it holds no rows");
    HEADRACE_ASSIGN(const auto committed, appender->Commit());
    report_.version = committed.version;
    report_.rows += committed.rows;
    report_.bytes += committed.bytes;
    ++report_.files;
    return Status::Ok();
  }

  Status WriteErrors() {
    Schema schema;
    for (const char* name : {"path", "error", "code"}) {
      Field field;
      field.name = name;
      field.type.kind = Kind::kString;
      schema.fields.push_back(field);
    }
    Field time;
    time.name = "time";
    time.type.kind = Kind::kTimestamp;
    time.type.zone = "UTC";
    schema.fields.push_back(time);
    report_.errors_table = options_.table + "_errors";
    HEADRACE_ASSIGN(const auto table, catalog_->OpenOrCreateTable(report_.errors_table, schema, commit_));
    arrow::StringBuilder path, error, code;
    arrow::TimestampBuilder when(arrow::timestamp(arrow::TimeUnit::MICRO, "UTC"),
                                 arrow::default_memory_pool());
    for (const auto& row : report_.errors) {
      // File names are bytes; a table's text is UTF-8.
      HEADRACE_ARROW_TRY(path.Append(Printable(row.path)));
      HEADRACE_ARROW_TRY(error.Append(Printable(row.error.ToString())));
      HEADRACE_ARROW_TRY(code.Append(CodeName(row.error.code())));
      HEADRACE_ARROW_TRY(when.Append(NowMicros()));
    }
    HEADRACE_ARROW_ASSIGN(const auto paths, path.Finish());
    HEADRACE_ARROW_ASSIGN(const auto errors, error.Finish());
    HEADRACE_ARROW_ASSIGN(const auto codes, code.Finish());
    HEADRACE_ARROW_ASSIGN(const auto times, when.Finish());
    const auto batch =
        arrow::RecordBatch::Make(schema.ToArrow(), paths->length(), {paths, errors, codes, times});
    HEADRACE_ASSIGN(const auto appender, table->StartAppend({"path", "error", "code", "time"}, commit_));
    HEADRACE_TRY(appender->Write(*batch));
    return appender->Commit().status();
  }

  static std::string Printable(const std::string& text) {
    std::string out;
    for (size_t i = 0; i < text.size();) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const size_t length = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 0;
      bool valid = length > 0 && i + length <= text.size();
      for (size_t k = 1; valid && k < length; ++k)
        valid = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
      if (valid) {
        out.append(text, i, length);
        i += length;
      } else {
        out += "\xef\xbf\xbd";
        ++i;
      }
    }
    return out;
  }

  table::Catalog* catalog_;
  const IngestOptions& options_;
  table::CommitOptions commit_;
  IngestReport report_;
  int64_t data_done_ = 0;
};

}  // namespace

Result<IngestReport> Ingest(table::Catalog* catalog, const std::vector<std::string>& sources,
                            const IngestOptions& options) {
  if (sources.empty()) return Status::Invalid("there is nothing to ingest: name files or folders");
  static const std::set<std::string> kFormats = {"", "images", "parquet", "jsonl", "csv"};
  if (!kFormats.contains(options.format)) {
    return Status::Invalid("'" + options.format +
                           "' is not a format; there are images, parquet, jsonl and csv");
  }
  return Run(catalog, options).Go(sources);
}

Result<std::shared_ptr<arrow::Array>> BlobsFromBytes(const Field& field,
                                                     const std::shared_ptr<arrow::Array>& bytes) {
  if (bytes->type_id() == arrow::Type::STRUCT) return bytes;
  HEADRACE_ASSIGN(const auto wrapped, table::ConformArray(bytes, field));
  const auto& cells = static_cast<const arrow::StructArray&>(*wrapped);
  const auto inline_bytes = std::static_pointer_cast<arrow::BinaryArray>(cells.GetFieldByName("inline"));
  arrow::StringBuilder media_type;
  arrow::Int32Builder width, height;
  arrow::Int8Builder orientation;
  for (int64_t i = 0; i < cells.length(); ++i) {
    const auto facts = inline_bytes->IsValid(i) ? media::ProbeImage(inline_bytes->GetView(i))
                                                : Result<media::ImageFacts>(Status::NotFound("no bytes"));
    HEADRACE_ARROW_TRY(facts.ok() ? media_type.Append(facts->media_type) : media_type.AppendNull());
    HEADRACE_ARROW_TRY(facts.ok() ? width.Append(facts->width) : width.AppendNull());
    HEADRACE_ARROW_TRY(facts.ok() ? height.Append(facts->height) : height.AppendNull());
    HEADRACE_ARROW_TRY(facts.ok() ? orientation.Append(facts->orientation) : orientation.AppendNull());
  }
  arrow::ArrayVector children = cells.fields();
  const auto replace = [&](const char* name, arrow::ArrayBuilder* builder) -> Status {
    const int index = static_cast<const arrow::StructType&>(*cells.type()).GetFieldIndex(name);
    HEADRACE_ARROW_ASSIGN(children[static_cast<size_t>(index)], builder->Finish());
    return Status::Ok();
  };
  HEADRACE_TRY(replace("media_type", &media_type));
  HEADRACE_TRY(replace("width", &width));
  HEADRACE_TRY(replace("height", &height));
  HEADRACE_TRY(replace("orientation", &orientation));
  return std::shared_ptr<arrow::Array>(std::make_shared<arrow::StructArray>(
      cells.type(), cells.length(), std::move(children), cells.null_bitmap(), cells.null_count()));
}

}  // namespace headrace::ingest
