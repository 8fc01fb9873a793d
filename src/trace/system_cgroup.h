// The cgroup that this process is in: what it uses of the processor and of memory, and what it may use. Both
// versions of cgroups, and machines where controllers are shared between them.
#pragma once

#include <string>
#include <vector>

#include "trace/system_reading.h"

namespace headrace::trace {

class Cgroup {
 public:
  // From /proc/PID/cgroup and what is mounted at `root`. Parts that are not there tell no figures.
  Cgroup(const std::string& process_folder, const std::string& root);

  // kNoFigure where there is none.
  double CpuSeconds(std::span<char> buffer) const;  // a counter
  struct Periods {
    double all = kNoFigure, throttled = kNoFigure;  // counters
  };
  Periods CpuPeriods(std::span<char> buffer) const;
  double MemoryBytes(std::span<char> buffer) const;     // with the cache of files
  double FileCacheBytes(std::span<char> buffer) const;  // of these, what the kernel would give back first
  bool tells_cpu() const { return cpu_v1_ || cpu_stat_.ok(); }
  bool tells_memory() const { return memory_usage_.ok(); }
  double cpu_limit_cores() const { return cpu_limit_cores_; }
  double memory_limit_bytes() const { return memory_limit_bytes_; }

 private:
  void LocateCpu(const std::vector<std::string>& v1, const std::vector<std::string>& v1_usage);
  void LocateCpuV2(const std::vector<std::string>& levels);
  void LocateMemory(const std::vector<std::string>& levels, bool v1);

  SampledFile cpu_usage_, cpu_stat_, memory_usage_, memory_stat_;
  bool cpu_v1_ = false, memory_v1_ = false;
  double cpu_limit_cores_ = kNoFigure, memory_limit_bytes_ = kNoFigure;
};

}  // namespace headrace::trace
