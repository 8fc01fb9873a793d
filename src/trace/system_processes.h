// A process and all that it started: what they use together.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "trace/system_reading.h"

namespace headrace::trace {

struct ProcessFigures {
  double count = 0;
  double memory_bytes = 0;  // resident
  // Counters. A process that ended is in those of the one that waited for it, so that the sums only go back
  // where one that nobody waited for is gone.
  double cpu_seconds = 0, read_bytes = 0, written_bytes = 0;
  // Of the first process alone.
  double threads = kNoFigure, open_files = kNoFigure;
};

class ProcessTree {
 public:
  // `proc` as /proc; `folder` is that of the first process in it ("/proc/self").
  ProcessTree(std::string proc, std::string folder);

  // Reads them all; what can't be read (a process that ended meanwhile, one of another user) counts nothing.
  ProcessFigures Read(std::span<char> buffer);

 private:
  struct Stat {
    int pid = 0, parent = 0;
    double cpu_seconds = 0, memory_bytes = 0, threads = 0;
  };
  static bool ParseStat(std::string_view text, Stat& stat);
  bool Add(const std::string& folder, std::span<char> buffer, ProcessFigures& figures) const;
  void AddBelow(int pid, int depth, std::span<char> buffer, ProcessFigures& figures) const;
  std::vector<int> ChildrenOf(int pid, std::span<char> buffer) const;
  void ListAll(std::span<char> buffer);
  double OpenFiles() const;

  std::string proc_, folder_;
  bool told_ = false;                           // the kernel tells the children of a process
  std::unordered_multimap<int, int> children_;  // where it does not: of all processes, by parent
};

}  // namespace headrace::trace
