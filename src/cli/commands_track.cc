// track: any program as a run: its output, the machine meanwhile, and how it ended.
#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <mutex>

#include "base/clock.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/json.h"
#include "cli/child.h"
#include "cli/commands.h"
#include "cli/render.h"
#include "cli/terminal.h"
#include "trace/run_writer.h"

namespace headrace::cli {
namespace {

using nlohmann::json;

constexpr double kGitSeconds = 20;
constexpr size_t kMostDiff = 16 << 20;  // bytes of a difference that is kept; of a longer one its hash is
constexpr size_t kLogPiece = 64 << 10;  // bytes of output in a row

struct TrackWords {
  std::string name, project, notes;
  std::vector<std::string> tags, config, command;
};

std::string Line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

// What git says of this folder, into the row.
void AddCode(json* row) {
  const auto git = [](std::vector<std::string> words) {
    words.insert(words.begin(), "git");
    return OutputOf(words, kGitSeconds);
  };
  const std::string commit = Line(git({"rev-parse", "HEAD"}));
  if (commit.empty()) return;
  json code = {{"commit", commit}};
  if (const auto branch = Line(git({"rev-parse", "--abbrev-ref", "HEAD"})); !branch.empty())
    code["branch"] = branch;
  if (const auto folder = Line(git({"rev-parse", "--show-toplevel"})); !folder.empty())
    code["folder"] = folder;
  const std::string diff = git({"diff", "HEAD", "--no-ext-diff", "--no-color"});
  code["changed"] = !diff.empty();
  if (!diff.empty()) code["diff_sha256"] = Sha256Hex(diff);
  if (!diff.empty() && diff.size() <= kMostDiff) (*row)["diff"] = diff;
  (*row)["code"] = std::move(code);
}

// "lr=0.1" is a number, "name=x" a text; JSON as it is.
Result<json> ConfigOf(const std::vector<std::string>& words) {
  json config = json::object();
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0)
      return Status::Invalid("--config is NAME=VALUE, not '" + word + "'");
    const std::string text = word.substr(equals + 1);
    json value = ParseJson(text);
    config[word.substr(0, equals)] = value.is_discarded() ? json(text) : std::move(value);
  }
  return config;
}

// Gathers what the program writes into rows of `media`, by whole lines where it can.
class OutputLog {
 public:
  explicit OutputLog(trace::RunWriter* writer) : writer_(writer) {}

  void Add(int stream, std::string_view bytes) {
    std::string& held = held_[stream == 2];
    held += bytes;
    while (held.size() >= kLogPiece) Give(stream, kLogPiece);
  }
  // Lines that are whole; at the end also what is not.
  void Flush(bool all) {
    for (const int stream : {1, 2}) {
      const std::string& held = held_[stream == 2];
      const size_t line = held.rfind('\n');
      Give(stream, all ? held.size() : line == std::string::npos ? 0 : line + 1);
    }
  }

 private:
  void Give(int stream, size_t size) {
    if (size == 0) return;
    std::string& held = held_[stream == 2];
    const json row = {{"key", stream == 2 ? "sys/stderr" : "sys/stdout"},
                      {"step", static_cast<int64_t>(MonotonicSeconds() - began_)},
                      {"index", index_++},
                      {"time", NowMicros()},
                      {"kind", "log"},
                      {"format", "text/plain"},
                      {"text", held.substr(0, size)}};
    held.erase(0, size);
    const Status kept = writer_->log().LogMedia(row, "");
    if (!kept.ok() && !told_)
      std::fprintf(stderr, "headrace: its output is not kept: %s\n", kept.ToString().c_str());
    told_ = told_ || !kept.ok();
  }

  trace::RunWriter* writer_;
  double began_ = MonotonicSeconds();
  std::string held_[2];
  int64_t index_ = 0;
  bool told_ = false;
};

json FirstRow(const TrackWords& words, const std::string& id, int64_t life, const json& config) {
  utsname system{};
  uname(&system);
  const size_t slash = words.command[0].rfind('/');
  const std::string who = table::DefaultWho();
  json row = {{"id", id},
              {"life", life},
              {"time", NowMicros()},
              {"kind", "track"},
              {"name", words.name.empty() ? words.command[0].substr(slash + 1) : words.name},
              {"state", "running"},
              {"started", NowMicros()},
              {"who", who.substr(0, who.find('@'))},
              {"host", system.nodename},
              {"command", words.command},
              {"tags", words.tags}};
  if (!words.project.empty()) row["project"] = words.project;
  if (!words.notes.empty()) row["notes"] = words.notes;
  if (!config.empty()) row["config"] = config;
  if (const char* job = std::getenv("SLURM_JOB_ID"); job != nullptr) row["slurm_job"] = job;
  return row;
}

// How it ended, as a row.
json LastRow(const std::string& id, int64_t life, const ChildEnd& end) {
  json row = {
      {"id", id}, {"life", life}, {"time", NowMicros()}, {"ended", NowMicros()}, {"state", "finished"}};
  if (end.signal == SIGINT) {
    row["state"] = "interrupted";
    row["reason"] = "Ctrl-C";
  } else if (end.signal != 0) {
    row["state"] = "killed";
    row["reason"] = "signal " + std::to_string(end.signal) + " (" + strsignal(end.signal) + ")";
  } else if (end.exit_code != 0) {
    row["state"] = "failed";
    row["reason"] = "exit code " + std::to_string(end.exit_code);
  }
  return row;
}

Status Track(Context* context, const TrackWords& words) {
  HEADRACE_ASSIGN(const json config, ConfigOf(words.config));
  HEADRACE_ASSIGN(const std::string location, context->Location());
  HEADRACE_ASSIGN(auto catalog, table::Catalog::Open(location, {.upkeep = true}));
  const std::string id = Uuid::Random().ToString();
  const int64_t life = NowMicros() / 1000;
  std::unique_ptr<trace::RunWriter> writer;
  HEADRACE_ASSIGN(writer, trace::RunWriter::Open(catalog, {.run = id, .life = life}, {.system = false}));
  json first = FirstRow(words, id, life, config);
  HEADRACE_TRY(writer->log().Record(first));
  OutputLog log(writer.get());
  std::unique_ptr<trace::SystemThread> system;
  ChildOptions options;
  options.words = words.command;
  options.environment = {{"HEADRACE_RUN", id}, {"HEADRACE_CATALOG", location}};
  options.output = [&](int stream, std::string_view bytes) { log.Add(stream, bytes); };
  options.each_second = [&] { log.Flush(false); };
  options.started = [&](int pid) {
    json row = {{"id", id}, {"life", life}, {"time", NowMicros()}, {"pid", pid}};
    AddCode(&row);
    (void)writer->log().Record(row);
    writer->Sample(pid);
  };
  const auto end = RunChild(options);
  log.Flush(true);
  HEADRACE_TRY(end.status());
  context->exit_code = end->exit_code;  // whatever becomes of the record
  Status kept = writer->log().Record(LastRow(id, life, *end));
  if (const Status closed = writer->Close(); kept.ok()) kept = closed;
  if (!kept.ok()) std::fprintf(stderr, "headrace: its end is not committed: %s\n", kept.ToString().c_str());
  if (!context->quiet && StderrIsTerminal())
    std::fprintf(stderr, "headrace runs show %s\n", id.substr(0, 8).c_str());
  return Status::Ok();
}

}  // namespace

void AddTrack(CLI::App* app, Context* context, Action* action) {
  auto words = std::make_shared<TrackWords>();
  CLI::App* command = app->add_subcommand(
      "track", "Run a program and keep its output, what the machine did, and how it ended, as a run");
  command->add_option("--name", words->name, "What the run is called (default: the program's name)");
  command->add_option("--project", words->project, "What it belongs to");
  command->add_option("--tag", words->tags, "A tag; may be given more than once")->allow_extra_args(false);
  command->add_option("--config", words->config, "NAME=VALUE that it is given; may be given more than once")
      ->allow_extra_args(false);
  command->add_option("--notes", words->notes, "A note");
  command->add_option("command", words->command, "The program and its arguments, behind --")->required();
  command->footer(
      "A program that calls hr.run() logs to the same run. Signals reach it, and its exit code is ours.\n\n"
      "Examples:\n  headrace track -- python train.py --lr 0.1\n  headrace track --name sweep --config "
      "lr=0.1 -- ./train.sh");
  command->callback([=] { *action = [=] { return Track(context, *words); }; });
}

}  // namespace headrace::cli
