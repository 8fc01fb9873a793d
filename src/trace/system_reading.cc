#include "trace/system_reading.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

namespace headrace::trace {

namespace {

constexpr std::string_view kBlanks = " \t";

// The kernel gives a long text a page at a time. A part shorter than this is the last: no line is as long as
// the rest of its page.
constexpr ssize_t kLastPart = 2048;

std::string_view ReadFrom(int fd, std::span<char> buffer) {
  size_t got = 0;
  while (got < buffer.size()) {
    const ssize_t part = pread(fd, buffer.data() + got, buffer.size() - got, static_cast<off_t>(got));
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) break;
    got += static_cast<size_t>(part);
    if (part < kLastPart) break;
  }
  return {buffer.data(), got};
}

}  // namespace

SampledFile::SampledFile(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}

std::string_view SampledFile::Read(std::span<char> buffer) const {
  return ok() ? ReadFrom(fd_.get(), buffer) : std::string_view();
}

std::string_view ReadOnce(const std::string& path, std::span<char> buffer) {
  return SampledFile(path).Read(buffer);
}

std::optional<double> FirstNumber(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number)) return std::nullopt;
  return number;
}

std::optional<double> NumberOf(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    std::string_view line = TakeLine(text);
    if (TakeWord(line) == name) return FirstNumber(line);
  }
  return std::nullopt;
}

std::string_view TakeWord(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\n"), text.size()));
  const std::string_view word = text.substr(0, text.find_first_of(" \t\n"));
  text.remove_prefix(word.size());
  return word;
}

std::string_view TakeLine(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return line;
}

double Rate::Next(double counter, double now_seconds) {
  const double grown = counter - counter_, seconds = now_seconds - at_;
  counter_ = counter;
  at_ = now_seconds;
  return grown >= 0 && seconds > 0 ? grown / seconds : kNoFigure;  // no NaN is >= 0
}

void Paced::Took(double cpu_seconds, double now_seconds) {
  next_ = now_seconds + std::max(least_seconds_, cpu_seconds / share_);
}

double ThreadCpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace headrace::trace
