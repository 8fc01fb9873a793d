#include "model/probe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "base/cache_folder.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/stop_event.h"
#include "model/adapter_file.h"
#include "model/chat.h"
#include "model/encoder.h"
#include "model/model.h"
#include "model/pair_format.h"

extern char** environ;

namespace headrace::model {
namespace {

// Of how files are tried: a verdict of another way does not count.
constexpr char kTries[] = ":2";

std::string Program(const std::string& given) {
  if (!given.empty()) return given;
  if (const char* named = getenv("HEADRACE_PROGRAM"); named != nullptr && *named != '\0') return named;
  char self[4096] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) > 0 && std::string(self).ends_with("/headrace"))
    return self;
  const char* path = getenv("PATH");
  for (std::string_view left = path != nullptr ? path : ""; !left.empty();) {
    const size_t colon = left.find(':');
    const std::string candidate = std::string(left.substr(0, colon)) + "/headrace";
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
    left = colon == std::string_view::npos ? "" : left.substr(colon + 1);
  }
  return "";
}

std::string VerdictFile(const std::string& path, const ProbeOptions& options) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return "";
  std::string folder = options.folder;
  if (folder.empty()) folder = CacheFolder("probes");
  if (folder.empty()) return "";
  const std::string identity = std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) + ":" +
                               std::to_string(info.st_size) + ":" + std::to_string(info.st_mtim.tv_sec) +
                               "." + std::to_string(info.st_mtim.tv_nsec) + ":" + options.chat_template +
                               ":" + BuildDescription() + kTries;
  char name[40];
  std::snprintf(name, sizeof name, "/%016llx",
                static_cast<unsigned long long>(XXH3_64bits(identity.data(), identity.size())));
  return folder + name;
}

// The process that tries a file, and what it says.
struct Child {
  pid_t id = -1;
  int said = -1;  // the reading end of its standard error
};

Result<Child> Start(const std::string& program, const std::string& path, const std::string& chat_template) {
  int out[2];
  if (pipe2(out, O_CLOEXEC) != 0) return Status::FromErrno(errno, "make a pipe for", program);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 2);
  std::vector<std::string> words = {program, "model", "probe", path};
  if (!chat_template.empty()) {
    words.emplace_back("--chat-template");
    words.push_back(chat_template);
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  Child child;
  child.said = out[0];
  const int failed = posix_spawn(&child.id, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  if (failed == 0) return child;
  close(out[0]);
  return Status::FromErrno(failed, "start", program);
}

double Patience(const ProbeOptions& options) {
  const char* given = getenv("HEADRACE_PROBE_SECONDS");
  return given != nullptr && std::atof(given) > 0 ? std::atof(given) : options.seconds;
}

struct Ending {
  std::string said;
  bool late = false;     // it was killed for taking too long
  bool stopped = false;  // … or because nobody wants to know any more
  int code = 0;          // as waitpid gives it
};

// Reads what the process says until it ends, until its time is over, or until the stop of which `stopped` is
// the event.
Ending WaitFor(const Child& child, double seconds, const StopEvent& stopped) {
  constexpr double kLongestPoll = 1e6;  // seconds: in milliseconds they fit an int
  Ending ending;
  const double until = MonotonicSeconds() + seconds;
  for (;;) {
    const double left = std::clamp(until - MonotonicSeconds(), 0.0, kLongestPoll);
    pollfd waits[] = {{child.said, POLLIN, 0}, {stopped.fd(), POLLIN, 0}};
    const int ready = poll(waits, 2, static_cast<int>(std::ceil(left * 1000)));
    ending.stopped = ready > 0 && waits[1].revents != 0;
    ending.late = ready == 0 && MonotonicSeconds() >= until;
    if (ending.stopped || ending.late) {
      kill(child.id, SIGKILL);
      break;
    }
    if (ready <= 0) continue;  // interrupted, or a poll shorter than what is left
    char buffer[4096];
    const ssize_t got = read(child.said, buffer, sizeof buffer);
    if (got <= 0) break;
    if (ending.said.size() < 65'536) ending.said.append(buffer, static_cast<size_t>(got));
  }
  close(child.said);
  while (waitpid(child.id, &ending.code, 0) < 0 && errno == EINTR) {
  }
  while (!ending.said.empty() && ending.said.back() == '\n') ending.said.pop_back();
  if (ending.said.rfind("headrace: ", 0) == 0) ending.said = ending.said.substr(10);
  return ending;
}

// What is wrong with the file, "" where nothing is.
std::string Complaint(const std::string& path, const Ending& ending, double seconds) {
  if (ending.late)
    return path + " was tried in a process of its own, which did not finish within " +
           std::to_string(static_cast<int>(seconds)) + " s (a template that loops?)";
  if (WIFSIGNALED(ending.code)) {
    const size_t line = ending.said.rfind('\n');
    return path + " was tried in a process of its own, which crashed (" + strsignal(WTERMSIG(ending.code)) +
           ")" +
           (ending.said.empty() ? "" : ": " + ending.said.substr(line == std::string::npos ? 0 : line + 1));
  }
  if (WEXITSTATUS(ending.code) != 0) return ending.said.empty() ? path + " cannot be loaded" : ending.said;
  return "";
}

// The verdict of an earlier try; empty: there is none.
std::optional<Status> ReadVerdict(const std::string& file) {
  if (file.empty()) return std::nullopt;
  const auto text = ReadFile(file);  // what cannot be read is tried again
  if (!text.ok()) return std::nullopt;
  if (*text == "ok") return Status::Ok();
  if (text->starts_with("bad:")) return Status::Corrupt(text->substr(4));
  return std::nullopt;
}

void WriteVerdict(const std::string& file, const std::string& complaint) {
  if (file.empty()) return;
  const Status kept = ReplaceFile(file, complaint.empty() ? "ok" : "bad:" + complaint, /*sync=*/false);
  (void)kept;  // else it is tried again
}

}  // namespace

Status ProbeHere(const std::string& path, const std::string& chat_template) {
  if (IsAdapter(path)) return ReadAdapter(path).status();
  HEADRACE_ASSIGN(const std::shared_ptr<Model> model, Model::Load(path));
  if (model->facts().has_template || !chat_template.empty()) {
    HEADRACE_ASSIGN(const auto renders, ChatTemplate::Make(*model, chat_template));
    // Templates may refuse some conversations (alternation, no system): that is theirs to say.
    (void)renders->Render({{"user", "Hello"}, {"assistant", "Hi"}, {"user", "Again"}}).ok();
  }
  HEADRACE_ASSIGN(std::vector<Token> tokens, model->Tokenize("a", true, false));
  if (tokens.empty()) return Status::Corrupt(path + " has a tokenizer that gives no tokens");
  if (model->facts().ranks) {
    HEADRACE_ASSIGN(const auto pairs, PairFormat::Make(*model));
    HEADRACE_ASSIGN(tokens, pairs->Tokens(*model, "a", "a", {.most = 64, .cut = true}));
  }
  if (model->facts().task() != Task::kWrite) {
    HEADRACE_ASSIGN(const auto encoder, NewEncoder(model, {.max_rows = 64, .max_texts = 1, .threads = 1}));
    return encoder->Encode(std::span(&tokens, 1)).ok()
               ? Status::Ok()
               : Status::Corrupt(path +
                                 (model->facts().ranks ? " cannot score a pair" : " cannot embed a text"));
  }
  HEADRACE_ASSIGN(const auto decoder,
                  NewDecoder(model, {.cells = 256, .max_rows = 32, .paths = 2, .threads = 1}));
  std::vector<Row> rows;
  for (size_t i = 0; i < std::min<size_t>(tokens.size(), 32); ++i)
    rows.push_back({tokens[i], static_cast<int32_t>(i), 0, true});
  HEADRACE_TRY(decoder->Decode(rows, 1));
  for (const float value : decoder->Logits(static_cast<int>(rows.size()) - 1))
    if (value != value) return Status::Corrupt(path + " gives numbers that are not numbers (NaN)");
  return Status::Ok();
}

Status Probe(const std::string& path, const ProbeOptions& options) {
  const std::string verdict = VerdictFile(path, options);
  if (const auto known = ReadVerdict(verdict)) return *known;
  const std::string program = Program(options.program);
  if (program.empty())
    return Status::NotFound(
        "the `headrace` program is needed to try a new model file safely, and is neither on PATH nor named "
        "by HEADRACE_PROGRAM");
  HEADRACE_ASSIGN(const auto stopped, StopEvent::Make(options.stop));
  HEADRACE_ASSIGN(const Child child, Start(program, path, options.chat_template));
  const double seconds = Patience(options);
  const Ending ending = WaitFor(child, seconds, *stopped);
  if (ending.stopped) return Status::Cancelled();
  const std::string complaint = Complaint(path, ending, seconds);
  WriteVerdict(verdict, complaint);
  if (complaint.empty()) return Status::Ok();
  return ending.late ? Status::Timeout(complaint) : Status::Corrupt(complaint);
}

}  // namespace headrace::model
