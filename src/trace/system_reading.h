// What all parts of the sampler read with: small files of the kernel, numbers in them, counters as rates, and
// work that is done as often as its cost allows.
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file.h"

namespace headrace::trace {

inline constexpr double kNoFigure = std::numeric_limits<double>::quiet_NaN();

// A file of procfs or of a cgroup, opened once, and read from its beginning by each sample: the kernel makes
// its text anew.
class SampledFile {
 public:
  SampledFile() = default;
  explicit SampledFile(const std::string& path);
  bool ok() const { return fd_.ok(); }
  // The text, which lies in `buffer`; what does not fit is cut off. Empty where there is no such file, or
  // what it tells of has gone.
  std::string_view Read(std::span<char> buffer) const;

 private:
  Fd fd_;
};

// The same of a file that is read once.
std::string_view ReadOnce(const std::string& path, std::span<char> buffer);

// The number that `text` begins with, after blanks; nothing where it begins with none, as in "max".
std::optional<double> FirstNumber(std::string_view text);
// The number after `name` and blanks, in a text of lines such as "nr_periods 12" or "MemTotal:  12 kB".
std::optional<double> NumberOf(std::string_view text, std::string_view name);
// Takes the next word off the front of `text`; empty at its end.
std::string_view TakeWord(std::string_view& text);
std::string_view TakeLine(std::string_view& text);

// A counter of the kernel's, as what it grows by in a second.
class Rate {
 public:
  // kNoFigure the first time, and where the counter was set back or could not be read.
  double Next(double counter, double now_seconds);

 private:
  double counter_ = kNoFigure, at_ = 0;
};

// Work whose cost nobody knows beforehand (a listing of thousands of processes): it is due again so late that
// it takes at most `share` of a core.
class Paced {
 public:
  Paced(double share, double least_seconds) : share_(share), least_seconds_(least_seconds) {}
  bool Due(double now_seconds) const { return now_seconds >= next_; }
  void Took(double cpu_seconds, double now_seconds);

 private:
  double share_, least_seconds_, next_ = -std::numeric_limits<double>::infinity();
};

// Processor time of this thread so far.
double ThreadCpuSeconds();

}  // namespace headrace::trace
