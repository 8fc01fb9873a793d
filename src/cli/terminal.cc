#include "cli/terminal.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/render.h"

namespace headrace::cli {
namespace {

volatile std::sig_atomic_t signals_seen = 0;
bool line_drawn = false;

volatile std::sig_atomic_t interrupted = 0;
extern "C" void OnInterrupt(int) { interrupted = 1; }

// The handler writes to it (write is async-signal-safe); -1: nobody reads.
std::atomic<int> signal_pipe{-1};
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void OnSignal(int) {
  signals_seen = signals_seen + 1;
  if (signals_seen > 1) _exit(130);
  const int to = signal_pipe;
  if (to >= 0 && write(to, "s", 1) != 1) _exit(130);
}

void OnStopSignals(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

// A thread that waits for the first signal and stops the source: what is called back may take locks, which a
// handler may not.
class SignalStop {
 public:
  SignalStop() {
    int ends[2];
    HEADRACE_CHECK(pipe2(ends, O_CLOEXEC) == 0);
    read_ = Fd(ends[0]);
    write_ = Fd(ends[1]);
    thread_ = std::thread([this] {
      char byte = 0;
      ssize_t got = 0;
      do got = read(read_.get(), &byte, 1);
      while (got < 0 && errno == EINTR);
      if (got == 1) source_.Stop();
    });
    signal_pipe = write_.get();
    OnStopSignals(OnSignal);
  }
  ~SignalStop() {
    OnStopSignals(SIG_DFL);
    signal_pipe = -1;
    write_ = Fd();  // the thread reads the end
    thread_.join();
  }
  SignalStop(const SignalStop&) = delete;
  SignalStop& operator=(const SignalStop&) = delete;
  StopToken token() const { return source_.token(); }

 private:
  StopSource source_;
  Fd read_, write_;
  std::thread thread_;
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
  static const SignalStop stop;
  return stop.token();
}

void CatchInterrupts() {
  struct sigaction action {};
  action.sa_handler = OnInterrupt;  // without SA_RESTART: a waiting read ends
  sigaction(SIGINT, &action, nullptr);
}

bool TakeInterrupt() {
  const bool was = interrupted != 0;
  interrupted = 0;
  return was;
}

LineRead ReadLine(std::string* line) {
  static std::string held;
  for (;;) {
    if (const size_t end = held.find('\n'); end != std::string::npos) {
      *line = held.substr(0, end);
      held.erase(0, end + 1);
      return LineRead::kLine;
    }
    char buffer[4096];
    const ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
    if (got > 0) {
      held.append(buffer, static_cast<size_t>(got));
    } else if (got < 0 && errno == EINTR) {
      held.clear();
      TakeInterrupt();
      return LineRead::kInterrupted;
    } else {
      *line = std::move(held);
      held.clear();
      return line->empty() ? LineRead::kEnd : LineRead::kLine;
    }
  }
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
