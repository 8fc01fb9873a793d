// init, ingest, tag.
#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "ingest/ingest.h"

namespace headrace::cli {
namespace {

using nlohmann::ordered_json;

Status Init(const Context& context, const std::string& where, bool no_sync) {
  std::string location = where;
  if (location.empty()) location = context.catalog;
  if (location.empty()) location = ".headrace";
  HEADRACE_ASSIGN(const auto catalog, table::Catalog::Init(location, {.sync = !no_sync}));
  if (context.json) {
    PrintJson({{"catalog", catalog->Describe()}});
  } else {
    std::printf("Made a catalog in %s%s\n", catalog->Describe().c_str(),
                no_sync ? " (without fsync: for scratch data only)" : "");
    const bool found_by_itself = location == ".headrace";
    std::printf("Next: headrace %singest FOLDER --table NAME\n",
                found_by_itself ? "" : ("--catalog " + location + " ").c_str());
  }
  return Status::Ok();
}

// "1 file", "2,000 files".
std::string Counted(int64_t count, const std::string& noun) {
  return HumanCount(count) + " " + noun + (count == 1 ? "" : "s");
}

// Notes on files that were taken in or left out unexpectedly.
void PrintNotes(const ingest::IngestReport& report, const std::string& on_copy) {
  if (!report.changed.empty()) {
    std::printf("%s changed since they were taken in",
                Counted(static_cast<int64_t>(report.changed.size()), "file").c_str());
    if (report.replaced > 0) {
      std::printf("; the earlier rows of %s went:\n", HumanCount(report.replaced).c_str());
    } else {
      std::printf(
          "; --on-change replace takes them in place of their rows, add as new rows, skip (the default) "
          "leaves them out:\n");
    }
    for (size_t i = 0; i < report.changed.size() && i < 5; ++i)
      std::printf("  %s\n", report.changed[i].c_str());
    if (report.changed.size() > 5) std::printf("  …\n");
  }
  if (!report.same_bytes.empty()) {
    const char* told =
        on_copy == "skip" ? "left out"
        : on_copy == "link"
            ? "rows that share those bytes"
            : "taken in (--on-copy link makes rows that share the bytes, skip leaves them out)";
    std::printf("%s with the same bytes as others, %s:\n",
                Counted(static_cast<int64_t>(report.same_bytes.size()), "file").c_str(), told);
    for (size_t i = 0; i < report.same_bytes.size() && i < 5; ++i) {
      std::printf("  %s = %s\n", report.same_bytes[i].path.c_str(), report.same_bytes[i].as.c_str());
    }
    if (report.same_bytes.size() > 5) std::printf("  …\n");
  }
  for (const auto& notice : report.notices) std::printf("%s\n", notice.c_str());
}

void PrintReport(const ingest::IngestReport& report, const std::string& on_copy) {
  if (report.version > 0) {
    std::printf("%s from %s into '%s' (version %ld): %s written in %s", Counted(report.rows, "row").c_str(),
                Counted(report.files, "file").c_str(), report.table.c_str(),
                static_cast<long>(report.version), HumanBytes(static_cast<double>(report.bytes)).c_str(),
                HumanSeconds(report.seconds).c_str());
    if (report.seconds > 0.05) {
      std::printf(
          ", %s rows/s",
          HumanCount(static_cast<int64_t>(static_cast<double>(report.rows) / report.seconds)).c_str());
    }
    std::printf("\n");
  } else {
    std::printf("Nothing new for '%s'\n", report.table.c_str());
  }
  const auto copies = on_copy == "skip" ? static_cast<int64_t>(report.same_bytes.size()) : 0;
  if (report.skipped > copies) {  // copies are told below
    std::printf("%s in the table already, and skipped (--again takes what is there once more)\n",
                Counted(report.skipped - copies, "file").c_str());
  }
  PrintNotes(report, on_copy);
  if (report.errors.empty()) return;
  std::printf("%s could not be taken in:\n", HumanCount(static_cast<int64_t>(report.errors.size())).c_str());
  for (size_t i = 0; i < report.errors.size() && i < 5; ++i) {
    std::printf("  %s: %s\n", report.errors[i].path.c_str(), report.errors[i].error.ToString().c_str());
  }
  if (report.errors.size() > 5) std::printf("  …\n");
  if (!report.errors_table.empty()) {
    std::printf("All of them: headrace sql \"select path, error from \\\"%s\\\"\"\n",
                report.errors_table.c_str());
  }
}

Status RunIngest(const Context& context, const std::vector<std::string>& sources,
                 ingest::IngestOptions options, const std::string& why) {
  HEADRACE_ASSIGN(const auto catalog, context.Open());
  options.commit = context.Commit(why);
  options.stop = context.stop;
  options.progress = ProgressLine(context.quiet || context.json);
  HEADRACE_ASSIGN(const auto report, ingest::Ingest(catalog.get(), sources, options));
  EndProgress();
  if (context.json) {
    ordered_json errors = ordered_json::array();
    for (const auto& error : report.errors) {
      errors.push_back(
          {{"path", error.path}, {"code", CodeName(error.error.code())}, {"error", error.error.ToString()}});
    }
    ordered_json copies = ordered_json::array();
    for (const auto& copy : report.same_bytes) copies.push_back({{"path", copy.path}, {"as", copy.as}});
    PrintJson({{"table", report.table},
               {"version", report.version},
               {"files", report.files},
               {"skipped", report.skipped},
               {"rows", report.rows},
               {"bytes", report.bytes},
               {"seconds", report.seconds},
               {"changed", report.changed},
               {"replaced", report.replaced},
               {"same_bytes", copies},
               {"notices", report.notices},
               {"refused", report.refused},
               {"errors", errors}});
  } else {
    PrintReport(report, options.on_copy);
  }
  if (report.refused > 0) {
    return Status::Invalid("nothing was taken of " + std::to_string(report.refused) +
                           (report.refused == 1 ? " file" : " files") + ": --on-error is fail");
  }
  if (report.files == 0 && report.skipped == 0 && !report.errors.empty()) {
    return Status::Invalid("none of the files could be taken in");
  }
  return Status::Ok();
}

}  // namespace

void AddInit(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("init", "Make a catalog");
  auto where = std::make_shared<std::string>();
  auto no_sync = std::make_shared<bool>(false);
  command->add_option("location", *where, "A folder or s3://bucket/prefix (default: .headrace here)");
  command->add_flag("--no-sync", *no_sync,
                    "Skip fsync: faster, and a power cut may lose commits. For scratch data");
  command->footer(
      "Examples:\n  headrace init\n  headrace init /data/catalog\n  headrace init s3://bucket/team");
  command->callback([=] { *action = [=] { return Init(*context, *where, *no_sync); }; });
}

void AddIngest(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("ingest", "Take files into a table: photographs, Parquet, JSON, CSV");
  auto sources = std::make_shared<std::vector<std::string>>();
  auto options = std::make_shared<ingest::IngestOptions>();
  auto why = std::make_shared<std::string>();
  command->add_option("source", *sources, "Files and folders; - is standard input (JSON)")->required();
  command->add_option("-t,--table", options->table, "The table; made if it is not there")->required();
  command->add_option("--format", options->format,
                      "images, parquet, json, jsonl or csv (default: by content and name)");
  command->add_option("-m,--why", *why, "A note for the table's log");
  command->add_flag("--again", options->again, "Also take files that are in the table already");
  command
      ->add_option("--on-change", options->on_change,
                   "Files that changed since they were taken in: skip (default), add as new rows, or replace "
                   "the rows that they became")
      ->check(CLI::IsMember({"skip", "add", "replace"}));
  command
      ->add_option(
          "--on-copy", options->on_copy,
          "Files with the same bytes as one that is there under another name: add (default), skip, or "
          "link photographs: rows of their own that share the bytes")
      ->check(CLI::IsMember({"add", "skip", "link"}));
  auto delimiter = std::make_shared<std::string>();
  auto types = std::make_shared<std::vector<std::string>>();
  command->add_option("--delimiter", *delimiter,
                      "CSV: the separator, one character or \\t (default: by name and first line)");
  command->add_option("--names", options->names, "CSV: the columns' names, a,b,c, of a file without a header")
      ->delimiter(',');
  auto header = std::make_shared<bool>(true);
  auto* header_flag = command->add_flag("--header,!--no-header", *header,
                                        "CSV: the first row holds names, or is a row like the others "
                                        "(default: names, unless --names is given)");
  command
      ->add_option(
          "--encoding", options->encoding,
          "CSV and JSON: utf-8, utf-16 or latin-1 (default: UTF-8, or UTF-16 by its byte order mark)")
      ->check(CLI::IsMember({"utf-8", "utf-16", "latin-1"}));
  command->add_option("--type", *types,
                      "COLUMN=TYPE, such as zip=string or meta=json; may be given more than once");
  command
      ->add_option(
          "--on-error", options->on_error,
          "Rows that cannot be taken in: skip them (default), or fail: nothing of their file comes in")
      ->check(CLI::IsMember({"skip", "fail"}));
  command->add_flag(
      "--shuffle", options->shuffle,
      "Photographs in random order: for folders by class that will be streamed from a bucket in order");
  command->footer(
      "Examples:\n  headrace ingest photos/ --table photos\n  headrace ingest captions.jsonl --table "
      "captions\n"
      "  zcat rows.jsonl.gz | headrace ingest - --table rows\n"
      "  headrace ingest log.csv --table log --names time,level,text --type level=string");
  command->callback([=] {
    *action = [=]() -> Status {
      if (*delimiter == "\\t") *delimiter = "\t";
      if (delimiter->size() > 1) return Status::Invalid("--delimiter is one character, or \\t");
      if (!delimiter->empty()) options->delimiter = (*delimiter)[0];
      if (header_flag->count() > 0) options->header = *header;
      for (const auto& type : *types) {
        const size_t split = type.rfind('=');
        if (split == std::string::npos) return Status::Invalid("--type " + type + " is not COLUMN=TYPE");
        options->types[type.substr(0, split)] = type.substr(split + 1);
      }
      return RunIngest(*context, *sources, *options, *why);
    };
  });
}

void AddTag(CLI::App* app, Context* context, Action* action) {
  auto* command = app->add_subcommand("tag", "Name a version of a table");
  auto table = std::make_shared<std::string>();
  auto tag = std::make_shared<std::string>();
  auto version = std::make_shared<std::string>();
  auto move = std::make_shared<bool>(false);
  auto remove = std::make_shared<bool>(false);
  auto why = std::make_shared<std::string>();
  command->add_option("table", *table, "The table")->required();
  command->add_option("tag", *tag, "The tag")->required();
  command->add_option("version", *version, "A version, tag or time (default: the newest version)");
  command->add_flag("--move", *move, "Move the tag if it is there already");
  command->add_flag("--remove", *remove, "Take the tag away");
  command->add_option("-m,--why", *why, "A note for the table's log");
  command->footer(
      "Examples:\n  headrace tag photos golden\n  headrace sql 'select count(*) from \"photos@golden\"'");
  command->callback([=] {
    *action = [=]() -> Status {
      HEADRACE_ASSIGN(const auto catalog, context->Open());
      HEADRACE_ASSIGN(const auto opened, catalog->OpenTable(*table));
      const auto options = context->Commit(*why);
      if (*remove) return opened->RemoveTag(*tag, options).status();
      return opened->Tag(*tag, *version, *move, options).status();
    };
  });
}

}  // namespace headrace::cli
