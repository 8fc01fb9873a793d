#include "cli/child.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/clock.h"
#include "base/file.h"

namespace headrace::cli {
namespace {

constexpr std::array<int, 8> kWatched = {SIGINT,  SIGTERM, SIGHUP,   SIGQUIT,
                                         SIGUSR1, SIGUSR2, SIGWINCH, SIGCHLD};
constexpr int kNotFound = 127;  // the exit code of a shell
constexpr size_t kPiece = 64 << 10;

struct Signal {
  int number;
  bool by_terminal;  // the kernel sent it to everybody in the foreground
};

int signal_pipe = -1;

void OnSignal(int number, siginfo_t* info, void*) {
  const int saved = errno;
  const Signal signal{number, info->si_code == SI_KERNEL};
  (void)!write(signal_pipe, &signal, sizeof signal);
  errno = saved;
}

// While it lives, the watched signals are told through a pipe instead of ending this process.
class SignalWatch {
 public:
  SignalWatch() {
    int ends[2] = {-1, -1};
    (void)!pipe2(ends, O_CLOEXEC | O_NONBLOCK);
    read_ = Fd(ends[0]);
    write_ = Fd(ends[1]);
    signal_pipe = write_.get();
    struct sigaction action {};
    action.sa_sigaction = OnSignal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    for (size_t i = 0; i < kWatched.size(); ++i) sigaction(kWatched[i], &action, &old_[i]);
  }
  ~SignalWatch() {
    for (size_t i = 0; i < kWatched.size(); ++i) sigaction(kWatched[i], &old_[i], nullptr);
    signal_pipe = -1;
  }
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  int fd() const { return read_.get(); }
  void Restore() const {  // in the child
    for (size_t i = 0; i < kWatched.size(); ++i) sigaction(kWatched[i], &old_[i], nullptr);
  }

 private:
  Fd read_, write_;
  std::array<struct sigaction, kWatched.size()> old_{};
};

// Our terminal passes every key on, Ctrl-C included: the child's own terminal makes signals of them.
class RawTerminal {
 public:
  explicit RawTerminal(bool wanted) : on_(wanted && tcgetattr(STDIN_FILENO, &old_) == 0) {
    if (!on_) return;
    termios raw = old_;
    cfmakeraw(&raw);
    raw.c_oflag = old_.c_oflag;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
  }
  ~RawTerminal() {
    if (on_) tcsetattr(STDIN_FILENO, TCSADRAIN, &old_);
  }
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios old_{};
  bool on_;
};

struct Streams {
  Fd out, error;  // what the child writes
  Fd in;          // its terminal, for what is typed
};

[[noreturn]] void Execute(const ChildOptions& options) {
  for (const auto& [name, value] : options.environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> words;
  words.reserve(options.words.size() + 1);
  for (const std::string& word : options.words) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  execvp(words[0], words.data());
  const std::string error = "headrace: " + options.words[0] + ": " + std::strerror(errno) + "\n";
  (void)!write(STDERR_FILENO, error.data(), error.size());
  _exit(kNotFound);
}

Result<pid_t> StartOnTerminal(const ChildOptions& options, const SignalWatch& signals, Streams* streams) {
  winsize size{};
  ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
  termios modes{};
  const bool have = tcgetattr(STDOUT_FILENO, &modes) == 0;
  int master = -1;
  const pid_t pid = forkpty(&master, nullptr, have ? &modes : nullptr, &size);
  if (pid < 0) return Status::FromErrno(errno, "start", options.words[0]);
  if (pid == 0) {
    signals.Restore();
    Execute(options);
  }
  fcntl(master, F_SETFD, FD_CLOEXEC);
  streams->out = Fd(master);
  streams->in = Fd(fcntl(master, F_DUPFD_CLOEXEC, 0));
  return pid;
}

Result<pid_t> StartOnPipes(const ChildOptions& options, const SignalWatch& signals, Streams* streams) {
  int out[2], error[2];
  if (pipe2(out, O_CLOEXEC) != 0) return Status::FromErrno(errno, "start", options.words[0]);
  streams->out = Fd(out[0]);
  Fd out_end(out[1]);
  if (pipe2(error, O_CLOEXEC) != 0) return Status::FromErrno(errno, "start", options.words[0]);
  streams->error = Fd(error[0]);
  Fd error_end(error[1]);
  const pid_t pid = fork();
  if (pid < 0) return Status::FromErrno(errno, "start", options.words[0]);
  if (pid == 0) {
    signals.Restore();
    dup2(out_end.get(), STDOUT_FILENO);
    dup2(error_end.get(), STDERR_FILENO);
    Execute(options);
  }
  return pid;
}

// Passes on what there is; false at its end.
bool PassOn(Fd* from, int to, int stream, const ChildOptions& options) {
  std::string piece(kPiece, '\0');
  const ssize_t got = read(from->get(), piece.data(), piece.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
  if (got <= 0) return false;  // a terminal ends with EIO
  const std::string_view bytes(piece.data(), static_cast<size_t>(got));
  if (options.output && stream > 0) options.output(stream, bytes);
  return WriteAll(to, bytes, "standard output").ok() || stream > 0;
}

void Forward(const SignalWatch& signals, pid_t pid, const Streams& streams) {
  Signal signal{};
  while (read(signals.fd(), &signal, sizeof signal) == sizeof signal) {
    if (signal.number == SIGCHLD) continue;
    if (signal.number == SIGWINCH) {
      winsize size{};
      if (streams.in.ok() && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        ioctl(streams.in.get(), TIOCSWINSZ, &size);
      continue;
    }
    // Without a terminal of its own the child got the terminal's signals itself.
    if (signal.by_terminal && !streams.in.ok()) continue;
    if (pid > 0) kill(pid, signal.number);
  }
}

ChildEnd EndOf(int status) {
  if (WIFSIGNALED(status)) return {128 + WTERMSIG(status), WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

}  // namespace

Result<ChildEnd> RunChild(const ChildOptions& options) {
  const SignalWatch signals;
  Streams streams;
  const bool terminal = isatty(STDOUT_FILENO) != 0 && isatty(STDIN_FILENO) != 0;
  HEADRACE_ASSIGN(const pid_t pid, terminal ? StartOnTerminal(options, signals, &streams)
                                            : StartOnPipes(options, signals, &streams));
  if (options.started) options.started(pid);
  const RawTerminal raw(terminal);
  double next = MonotonicSeconds() + 1;
  bool ended = false, typing = terminal;
  int status = 0, after = 0;
  while (streams.out.ok() || streams.error.ok() || !ended) {
    pollfd fds[4] = {{signals.fd(), POLLIN, 0},
                     {streams.out.get(), POLLIN, 0},
                     {streams.error.get(), POLLIN, 0},
                     {typing ? STDIN_FILENO : -1, POLLIN, 0}};
    const double wait = std::max(0.0, next - MonotonicSeconds());
    // Once it has ended, what others hold open of its output (a daemon that it left) is waited for a second.
    const int ready = poll(fds, 4, static_cast<int>(wait * 1000) + 1);
    // Once it is reaped, its number may be another process's.
    if (fds[0].revents != 0) Forward(signals, ended ? 0 : pid, streams);
    if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0 &&
        !PassOn(&streams.out, STDOUT_FILENO, 1, options))
      streams.out = Fd();
    if ((fds[2].revents & (POLLIN | POLLHUP | POLLERR)) != 0 &&
        !PassOn(&streams.error, STDERR_FILENO, 2, options))
      streams.error = Fd();
    if (fds[3].revents != 0) {
      Fd input(fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
      typing = PassOn(&input, streams.in.get(), 0, options);
    }
    if (!ended && waitpid(pid, &status, WNOHANG) == pid) ended = true;
    if (MonotonicSeconds() < next) continue;
    next = MonotonicSeconds() + 1;
    if (options.each_second) options.each_second();
    // What it left behind may write for ever: a second after its end is enough.
    if (ended && (ready <= 0 || ++after >= 2)) break;
  }
  return EndOf(status);
}

std::string OutputOf(const std::vector<std::string>& words, double seconds) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "";
  Fd from(ends[0]), to(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return "";
  if (pid == 0) {
    const Fd null(open("/dev/null", O_RDWR));
    dup2(null.get(), STDIN_FILENO);
    dup2(null.get(), STDERR_FILENO);
    dup2(to.get(), STDOUT_FILENO);
    ChildOptions options;
    options.words = words;
    Execute(options);
  }
  to = Fd();
  std::string text, piece(kPiece, '\0');
  const double until = MonotonicSeconds() + seconds;
  for (;;) {
    pollfd fd{from.get(), POLLIN, 0};
    const double left = until - MonotonicSeconds();
    if (left <= 0) break;
    if (poll(&fd, 1, static_cast<int>(left * 1000) + 1) < 0 && errno != EINTR) break;
    if (fd.revents == 0) continue;
    const ssize_t got = read(from.get(), piece.data(), piece.size());
    if (got <= 0) break;
    text.append(piece.data(), static_cast<size_t>(got));
  }
  if (MonotonicSeconds() >= until) kill(pid, SIGKILL);
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? text : "";
}

}  // namespace headrace::cli
