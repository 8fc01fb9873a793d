#include "ingest/ingest.h"

#include <arrow/array.h>
#include <arrow/builder.h>
#include <arrow/type.h>

#include <algorithm>
#include <random>
#include <set>

#include "base/clock.h"
#include "ingest/run_state.h"
#include "ingest/spool.h"
#include "ingest/walk.h"
#include "media/media.h"
#include "table/arrow_bridge.h"
#include "table/conform.h"

namespace headrace::ingest {
namespace {

using table::Field;

struct Sources {
  std::vector<FoundFile> photos, data;
  SpooledInput input;
};

Status Find(const std::vector<std::string>& sources, RunState* run, Sources* found) {
  std::set<std::string> seen;
  for (const auto& source : sources) {
    std::vector<FoundFile> files;
    if (source == "-") {
      HEADRACE_ASSIGN(found->input, SpooledInput::Standard(run->options.stop));
      FoundFile file{found->input.path(), "stdin", FileFormat::kJsonl, found->input.bytes()};
      if (run->options.format == "csv") file.format = FileFormat::kCsv;
      if (run->options.format == "parquet") file.format = FileFormat::kParquet;
      files.push_back(std::move(file));
    } else {
      HEADRACE_TRY(Walk(source, run->options.format, &files, &run->report.errors));
    }
    for (auto& file : files) {
      if (!file.source.empty() && !seen.insert(file.source).second) continue;  // given twice
      (file.format == FileFormat::kImage ? found->photos : found->data).push_back(std::move(file));
    }
  }
  if (found->photos.empty() && found->data.empty() && run->report.errors.empty()) {
    return Status::NotFound("there are no files in " + sources[0]);
  }
  return Status::Ok();
}

Result<IngestReport> Run(const std::vector<std::string>& sources, RunState* run) {
  const double start = MonotonicSeconds();
  const IngestOptions& options = run->options;
  Sources found;
  HEADRACE_TRY(Find(sources, run, &found));
  if (!found.photos.empty() && !found.data.empty()) {
    for (const auto& file : found.data) {
      run->Fail(file, Status::Invalid(
                          "a data file among photographs; give it a table of its own: headrace ingest " +
                          file.path + " --table NAME"));
    }
    found.data.clear();
  }
  if (options.shuffle) {
    if (found.photos.empty() && !found.data.empty()) {
      return Status::Invalid(
          "--shuffle is for photographs; rows are shuffled by SQL: headrace sql \"select * from " +
          options.table + " order by random()\" --into NAME");
    }
    std::shuffle(found.photos.begin(), found.photos.end(), std::mt19937_64(0));
  }
  if (!found.photos.empty()) HEADRACE_TRY(TakePhotos(found.photos, run));
  if (!found.data.empty()) HEADRACE_TRY(TakeDataFiles(found.data, run));
  if (options.keep_errors && !run->report.errors.empty()) HEADRACE_TRY(WriteErrors(run));
  run->report.seconds = MonotonicSeconds() - start;
  return std::move(run->report);
}

}  // namespace

Result<IngestReport> Ingest(table::Catalog* catalog, const std::vector<std::string>& sources,
                            const IngestOptions& options) {
  if (sources.empty()) return Status::Invalid("there is nothing to ingest: name files or folders");
  static const std::set<std::string> kFormats = {"", "images", "parquet", "json", "jsonl", "csv"};
  if (!kFormats.contains(options.format)) {
    return Status::Invalid("'" + options.format +
                           "' is not a format; there are images, parquet, json, jsonl and csv");
  }
  if (options.on_change != "skip" && options.on_change != "add") {
    return Status::Invalid("on_change is '" + options.on_change + "'; it may be skip or add");
  }
  if (options.on_error != "skip" && options.on_error != "fail") {
    return Status::Invalid("on_error is '" + options.on_error + "'; it may be skip or fail");
  }
  if (std::set<std::string>(options.names.begin(), options.names.end()).size() != options.names.size())
    return Status::Invalid("two of the names are equal");
  static const std::set<std::string> kEncodings = {"", "utf-8", "utf-16", "latin-1"};
  if (!kEncodings.contains(options.encoding)) {
    return Status::Invalid("'" + options.encoding +
                           "' is not an encoding; there are utf-8, utf-16 and latin-1");
  }
  for (const auto& [column, type] : options.types) {
    const auto parsed = table::ParseType(type);
    if (!parsed.ok()) return parsed.status().Wrap("--type " + column);
  }
  if (std::count(sources.begin(), sources.end(), "-") > 1) {
    return Status::Invalid("standard input (-) can be read only once");
  }
  RunState run(catalog, options);
  return Run(sources, &run);
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
