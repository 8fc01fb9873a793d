#include "store/aws_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "store/aws_request.h"

namespace headrace::store {
namespace {

constexpr double kSeconds = 60;  // it may ask a person, or a network
constexpr size_t kMostBytes = 1 << 20;

// All that comes until the end, or nothing where that takes too long or is too much.
std::optional<std::string> ReadUntil(int fd, double deadline) {
  std::string text;
  char part[4096];
  for (;;) {
    pollfd wait{fd, POLLIN, 0};
    const double left = deadline - MonotonicSeconds();
    if (left <= 0 || poll(&wait, 1, static_cast<int>(left * 1000) + 1) < 0) return std::nullopt;
    if (wait.revents == 0) continue;
    const ssize_t got = read(fd, part, sizeof part);
    if (got == 0) return text;
    if (got < 0 || text.size() > kMostBytes) return std::nullopt;
    text.append(part, static_cast<size_t>(got));
  }
}

}  // namespace

Result<std::vector<std::string>> SplitWords(const std::string& line) {
  std::vector<std::string> words;
  bool inside = false;  // of a word, which may be empty
  char quote = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote == 0 && (c == ' ' || c == '\t')) {
      inside = false;
      continue;
    }
    if (!inside) words.emplace_back();
    inside = true;
    if (c == '\\' && quote != '\'' && i + 1 < line.size() &&
        (quote == 0 || line[i + 1] == '"' || line[i + 1] == '\\')) {
      words.back() += line[++i];
    } else if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else {
      words.back() += c;
    }
  }
  if (quote != 0) return Status::Invalid("credential_process: a quotation is not closed");
  return words;
}

Result<ExpiringCredentials> ProcessCredentials(const std::string& line, const std::string& profile) {
  const std::string who = "credential_process of the profile '" + profile + "'";
  HEADRACE_ASSIGN(const auto words, SplitWords(line));
  if (words.empty()) return Status::Invalid(who + " is empty");
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Status::FromErrno(errno, "make a pipe for", who);
  const Fd out(ends[0]);
  Fd in(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.get(), STDOUT_FILENO);
  pid_t child = 0;
  const int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  in = Fd();
  if (error != 0) return Status::FromErrno(error, "run", words[0]).Wrap(who);
  const auto text = ReadUntil(out.get(), MonotonicSeconds() + kSeconds);
  if (!text) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!text)
    return Status::Timeout(who + " gave no answer within " + std::to_string(static_cast<int>(kSeconds)) +
                           " s");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return Status::Permission(who + " failed" +
                              (WIFEXITED(status) ? " with exit status " + std::to_string(WEXITSTATUS(status))
                                                 : ", killed by signal " + std::to_string(WTERMSIG(status))));
  const auto parsed = ParseJson(*text);
  if (JsonNumber(parsed, "Version") != 1)
    return Status::Unsupported(who + " printed no JSON with \"Version\": 1");
  return CredentialsFromJson(*text, "SessionToken", who);
}

}  // namespace headrace::store
