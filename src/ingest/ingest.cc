#include "ingest/ingest.h"

#include <algorithm>
#include <random>
#include <set>

#include "base/clock.h"
#include "ingest/item_reader.h"
#include "ingest/run_state.h"
#include "ingest/spool.h"
#include "ingest/walk.h"

namespace headrace::ingest {
namespace {

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
      const ItemReader* reader = ItemReaderOf(run->options.format);
      files.push_back(
          {found->input.path(), "stdin", reader == nullptr ? &JsonItems() : reader, found->input.bytes()});
    } else {
      HEADRACE_TRY(Walk(source, run->options.format, &files, &run->report.errors));
    }
    for (auto& file : files) {
      if (!file.source.empty() && !seen.insert(file.source).second) continue;  // given twice
      (file.reader == nullptr ? found->photos : found->data).push_back(std::move(file));
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
  if (options.on_copy == "link" && !found.data.empty())
    return Status::Invalid(
        "on_copy is 'link', which is for photographs; of data files copies are added or skipped");
  if (!found.photos.empty()) HEADRACE_TRY(TakePhotos(found.photos, run));
  if (!found.data.empty()) HEADRACE_TRY(TakeDataFiles(found.data, run));
  if (options.keep_errors && !run->report.errors.empty()) HEADRACE_TRY(WriteErrors(run));
  run->report.seconds = MonotonicSeconds() - start;
  return std::move(run->report);
}

}  // namespace

Result<IngestReport> Ingest(table::Catalog* catalog, const std::vector<std::string>& sources,
                            const IngestOptions& options) {
  for (const auto& source : sources) {
    if (source.find('\0') != std::string::npos) return Status::Invalid("a source has a NUL in its name");
  }
  if (sources.empty()) return Status::Invalid("there is nothing to ingest: name files or folders");
  const auto formats = Formats();
  if (!options.format.empty() && std::find(formats.begin(), formats.end(), options.format) == formats.end()) {
    std::string known;
    for (const auto& format : formats) known += (known.empty() ? "" : ", ") + std::string(format);
    return Status::Invalid("'" + options.format + "' is not a format; there are " + known);
  }
  if (options.on_change != "skip" && options.on_change != "add" && options.on_change != "replace") {
    return Status::Invalid("on_change is '" + options.on_change + "'; it may be skip, add or replace");
  }
  if (options.on_copy != "add" && options.on_copy != "skip" && options.on_copy != "link") {
    return Status::Invalid("on_copy is '" + options.on_copy + "'; it may be add, skip or link");
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

}  // namespace headrace::ingest
