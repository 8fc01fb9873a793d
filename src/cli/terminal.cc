#include "cli/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/stop_event.h"
#include "cli/render.h"

namespace headrace::cli {
namespace {

volatile std::sig_atomic_t signals_seen = 0;
bool line_drawn = false;

// The handlers write to them (write is async-signal-safe); -1: nobody reads.
std::atomic<int> signal_pipe{-1}, interrupt_pipe{-1};
std::atomic<int> interrupts{0};  // so far
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void OnSignal(int) {
  signals_seen = signals_seen + 1;
  if (signals_seen > 1) _exit(130);
  const int to = signal_pipe;
  if (to >= 0 && write(to, "s", 1) != 1) _exit(130);
}

extern "C" void OnInterrupt(int) {
  ++interrupts;
  const int to = interrupt_pipe;
  if (to >= 0 && write(to, "i", 1) != 1) _exit(130);
}

void OnStopSignals(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

// A thread that calls `seen` for every byte that a signal's handler writes: what is called may take locks,
// which a handler may not.
class SignalThread {
 public:
  SignalThread(std::atomic<int>* pipe, std::function<void()> seen) : pipe_(pipe) {
    int ends[2];
    HEADRACE_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    read_ = Fd(ends[0]);
    write_ = Fd(ends[1]);
    thread_ = std::thread([this, seen = std::move(seen)] {
      char byte = 0;
      for (;;) {
        const ssize_t got = read(read_.get(), &byte, 1);
        if (got == 1) seen();
        if (got == 0 || (got < 0 && errno != EINTR)) return;
      }
    });
    *pipe_ = write_.get();
  }
  ~SignalThread() {
    *pipe_ = -1;
    write_ = Fd();  // the thread reads the end
    thread_.join();
  }
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

 private:
  std::atomic<int>* const pipe_;
  Fd read_, write_;
  std::thread thread_;
};

// Stopped by the first signal.
class SignalStop {
 public:
  SignalStop() : thread_(&signal_pipe, [this] { source_.Stop(); }) { OnStopSignals(OnSignal); }
  ~SignalStop() { OnStopSignals(SIG_DFL); }
  StopToken token() const { return source_.token(); }

 private:
  StopSource source_;
  SignalThread thread_;
};

}  // namespace

bool StdoutIsTerminal() { return isatty(STDOUT_FILENO) == 1; }
bool StderrIsTerminal() { return isatty(STDERR_FILENO) == 1; }

int TerminalWidth() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 0;
}

StopToken StopOnSignal() {
  static SignalStop stop;
  return stop.token();
}

struct Interrupts::Watch {
  explicit Watch(StopToken end_) : end(std::move(end_)) {}
  void Look() {
    const std::lock_guard lock(mutex);
    if (interrupts > before || end.stopped()) source.Stop();
  }

  const StopToken end;
  std::mutex mutex;
  StopSource source;  // of the token that was given last
  int before = 0;     // interrupts when it was given
  struct sigaction old {};
  SignalThread thread{&interrupt_pipe, [this] { Look(); }};
  StopCallback on_end{end, [this] { Look(); }};
};

Interrupts::Interrupts(const StopToken& end) : watch_(std::make_unique<Watch>(end)) {
  struct sigaction action {};
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, &watch_->old);
}

Interrupts::~Interrupts() { sigaction(SIGINT, &watch_->old, nullptr); }

StopToken Interrupts::Next() {
  const std::lock_guard lock(watch_->mutex);
  watch_->source = {};
  watch_->before = interrupts;
  if (watch_->end.stopped()) watch_->source.Stop();
  return watch_->source.token();
}

Result<LineRead> ReadLine(std::string* line, const StopToken& stop) {
  static std::string held;
  HEADRACE_ASSIGN(const auto stopped, StopEvent::Make(stop));
  for (;;) {
    if (const size_t end = held.find('\n'); end != std::string::npos) {
      *line = held.substr(0, end);
      held.erase(0, end + 1);
      return LineRead::kLine;
    }
    pollfd waits[] = {{STDIN_FILENO, POLLIN, 0}, {stopped->fd(), POLLIN, 0}};
    if (poll(waits, 2, -1) < 0) continue;  // a signal's handler ran
    if (waits[1].revents != 0) {
      held.clear();
      return LineRead::kStopped;
    }
    char buffer[4096];
    const ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got > 0) {
      held.append(buffer, static_cast<size_t>(got));
    } else {
      *line = std::move(held);
      held.clear();
      return line->empty() ? LineRead::kEnd : LineRead::kLine;
    }
  }
}

Result<LineRead> ReadKey(std::string* key, const StopToken& stop) {
  HEADRACE_ASSIGN(const auto stopped, StopEvent::Make(stop));
  termios before{};
  if (tcgetattr(STDIN_FILENO, &before) != 0) return Status::FromErrno(errno, "ask", "the terminal");
  termios raw = before;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // Ctrl-C stays a signal
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  pollfd waits[] = {{STDIN_FILENO, POLLIN, 0}, {stopped->fd(), POLLIN, 0}};
  while (poll(waits, 2, -1) < 0 && errno == EINTR) {
  }
  char one = 0;
  const bool interrupted = waits[1].revents != 0;
  const ssize_t got = interrupted ? 0 : read(STDIN_FILENO, &one, 1);
  tcsetattr(STDIN_FILENO, TCSANOW, &before);
  if (interrupted) return LineRead::kStopped;
  key->assign(got == 1 ? 1 : 0, one);
  return got == 1 && one != 4 ? LineRead::kLine : LineRead::kEnd;  // 4: Ctrl-D
}

ProgressFn ProgressLine(bool quiet) {
  if (quiet) return nullptr;
  struct State {
    double start = MonotonicSeconds();
    double last = 0;
    std::string what;
  };
  const auto state = std::make_shared<State>();
  const bool terminal = StderrIsTerminal();
  return [state, terminal](const Progress& progress) {
    const double now = MonotonicSeconds();
    const bool fresh = progress.what != state->what;
    if (fresh) {
      state->what = progress.what;
      if (progress.done <= 1) state->start = now;
    }
    if (now - state->last < (terminal ? 0.1 : 5.0)) return;
    if (!terminal && now - state->start < 5.0) return;  // short work says nothing in a pipe
    state->last = now;
    const double seconds = std::max(1e-3, now - state->start);
    const double rate = static_cast<double>(progress.done) / seconds;
    std::string line = progress.what + "  " + HumanCount(progress.done);
    if (progress.total > 0) {
      line += " of " + HumanCount(progress.total) + " (" +
              std::to_string(progress.done * 100 / progress.total) + " %)";
    }
    line += "  " + HumanCount(static_cast<int64_t>(rate)) + "/s";
    if (progress.bytes > 0) line += "  " + HumanBytes(static_cast<double>(progress.bytes) / seconds) + "/s";
    if (progress.total > progress.done && rate > 0) {
      line += "  " + HumanSeconds(static_cast<double>(progress.total - progress.done) / rate) + " left";
    }
    if (progress.errors > 0) line += "  " + HumanCount(progress.errors) + " errors";
    DrawLine(line);
  };
}

void DrawLine(const std::string& line) {
  const bool terminal = StderrIsTerminal();
  std::fprintf(stderr, terminal ? "\r\033[K%s" : "%s\n", line.c_str());
  std::fflush(stderr);
  line_drawn = terminal;
}

void EndProgress() {
  if (line_drawn) std::fprintf(stderr, "\r\033[K");
  line_drawn = false;
}

}  // namespace headrace::cli
