#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#ifdef HEADRACE_ENGINE
#include "trace/committer.h"
#endif

namespace headrace::cli {

Result<std::string> Context::Location() const {
  if (!catalog.empty()) return catalog;
  if (const char* named = getenv("HEADRACE_CATALOG"); named != nullptr && *named != '\0')
    return std::string(named);
  char buffer[4096];
  if (getcwd(buffer, sizeof buffer) == nullptr) return Status::FromErrno(errno, "find", "the working folder");
  for (std::string folder = buffer;; folder = folder.substr(0, folder.rfind('/'))) {
    const std::string candidate = folder + "/.headrace";
    struct stat info {};
    if (stat((candidate + "/catalog.json").c_str(), &info) == 0) return candidate;
    if (folder.empty()) break;
  }
  return Status::NotFound(
      std::string("there is no catalog in ") + buffer +
      " or above it; make one with `headrace init`, or name one with --catalog or HEADRACE_CATALOG");
}

namespace {

// Warns of quarantined spool records until they are removed.
void TellOfDamage([[maybe_unused]] const table::Catalog& catalog) {
#ifdef HEADRACE_ENGINE
  for (const std::string& path : trace::DamagedSpools(trace::SpoolRoot(catalog)))
    std::fprintf(stderr,
                 "headrace: records that could not be read are kept in %s; look at them, then remove it\n",
                 path.c_str());
#endif
}

}  // namespace

Result<std::shared_ptr<table::Catalog>> Context::Open() const {
  HEADRACE_ASSIGN(const std::string location, Location());
  auto opened = table::Catalog::Open(location, {.upkeep = true});
  struct stat info {};
  const bool folder = location.find("://") == std::string::npos;
  if (folder && opened.status().Is(Code::kNotFound) && stat(location.c_str(), &info) != 0)
    return Status::NotFound("there is no folder " + location + "; `headrace init " + location +
                            "` makes a catalog there");
  if (opened.ok()) TellOfDamage(**opened);
  return opened;
}

table::CommitOptions Context::Commit(const std::string& why) const {
  table::CommitOptions options;
  options.why = why;
  options.how = command_line;
  options.stop = stop;
  return options;
}

namespace {

int Report(const Context& context, const Status& status) {
  EndProgress();
  if (context.json) {
    const nlohmann::json error = {
        {"error", {{"code", CodeName(status.code())}, {"message", status.ToString()}}}};
    std::fprintf(stderr, "%s\n",
                 error.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else if (status.Is(Code::kCancelled)) {
    std::fprintf(stderr, "headrace: stopped; nothing was committed after the last finished step\n");
  } else {
    const bool colour = StderrIsTerminal();
    std::fprintf(stderr, "%sheadrace:%s %s\n", colour ? "\033[31m" : "", colour ? "\033[0m" : "",
                 status.ToString().c_str());
  }
  return status.Is(Code::kCancelled) ? 130 : 1;
}

// Levenshtein distance.
size_t Distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// "" if `word` is one of the commands.
std::string NotAmong(const CLI::App& app, const std::string& word, const std::string& group) {
  std::string nearest;
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == word) return "";
    if (nearest.empty() || Distance(word, command->get_name()) < Distance(word, nearest))
      nearest = command->get_name();
  }
  const bool close = Distance(word, nearest) <= 1 + word.size() / 3;
  return "there is no command '" + group + word + "'" +
         (close ? "; did you mean '" + group + nearest + "'?" : ";") + " `headrace " + group +
         "-h` lists them all";
}

// The error for a word that is not a command: the parser would only say that one is missing.
std::string UnknownCommand(const CLI::App& app, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--catalog") ++i;
    if (word.starts_with("-")) continue;
    std::string error = NotAmong(app, word, "");
    const bool more = i + 1 < argc && !std::string_view(argv[i + 1]).starts_with("-");
    if (!error.empty() || !more) return error;
    const CLI::App* group = app.get_subcommand(word);
    const bool has_commands = !group->get_subcommands([](const CLI::App*) { return true; }).empty();
    return has_commands ? NotAmong(*group, argv[i + 1], word + " ") : "";
  }
  return "";
}

// In the order of the help text.
constexpr void (*kCommands[])(CLI::App*, Context*, Action*) = {
    AddInit,       AddIngest,  AddLs,      AddDescribe,   AddLog,     AddDiff,   AddDu,    AddSql,
    AddHead,       AddGet,     AddTag,     AddAddColumns, AddDrop,    AddRename, AddWiden, AddDelete,
    AddUpdate,     AddRestore, AddCompact, AddSort,       AddWriters, AddKeep,   AddGc,    AddVerify,
    AddRepair,
#ifdef HEADRACE_ENGINE  // without it: tables, which compile in a minute (./dev demo)
    AddStream,     AddTune,    AddRuns,    AddTrack,      AddWatch,   AddScore,  AddQueue, AddLabel,
    AddModel,      AddRun,     AddChat,    AddEmbed,      AddServe,   AddTop,    AddKey,   AddTrace,
    AddRunsImport,  // after the group that it is of
#endif
};

int Main(int argc, char** argv) {
  Context context;
  Action action;
  for (int i = 0; i < argc; ++i) {
    const std::string word = i == 0 ? "headrace" : argv[i];
    const bool quote = word.find_first_of(" '\"*;|<>") != std::string::npos;
    context.command_line += (i ? " " : "") + (quote ? "'" + word + "'" : word);
  }
  CLI::App app{
      "Headrace: versioned tables for multimodal data, from raw files to training batches and models that "
      "answer."};
  app.name("headrace");
  app.set_version_flag("--version", "headrace " + std::string(Version()) + " (format 1)");
  app.add_option(
      "--catalog", context.catalog,
      "The catalog: a folder or s3://bucket/prefix (HEADRACE_CATALOG; else the nearest .headrace/ upwards)");
  app.add_flag("--json", context.json, "Print JSON, for programs");
  app.add_flag("-q,--quiet", context.quiet, "No progress");
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "Try:\n  headrace init\n  headrace ingest photos/ --table photos\n  headrace sql \"select count(*) "
      "from photos where image.width > 2000\"\n"
      "  headrace COMMAND -h");
  for (const auto add : kCommands) add(&app, &context, &action);
  if (const std::string unknown = UnknownCommand(app, argc, argv); !unknown.empty()) {
    std::fprintf(stderr, "headrace: %s\n", unknown.c_str());
    return 2;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  context.stop = StopOnSignal();
  const Status status = action ? action() : Status::Ok();
  EndProgress();
  if (!status.ok()) return Report(context, status);
  if (std::fflush(stdout) != 0)
    return Report(context, Status::FromErrno(errno, "write to", "standard output"));
  return context.exit_code;
}

}  // namespace
}  // namespace headrace::cli

int main(int argc, char** argv) { return headrace::cli::Main(argc, argv); }
