// The figures of everything but GPUs.
#pragma once

#include <array>
#include <span>
#include <string>

#include "trace/system_cgroup.h"
#include "trace/system_processes.h"
#include "trace/system_reading.h"
#include "trace/system_summary.h"

namespace headrace::trace {

struct HostPlaces {
  std::string proc, cgroup, disk;  // as SystemOptions has them
  std::string process;             // below proc: "self", or a number
};

class HostSampler {
 public:
  HostSampler(const HostPlaces& places, SystemSummary& summary);
  void Sample(double now_seconds);

 private:
  enum Figure : uint8_t {
    kCpuCores,
    kCpuPercent,
    kCpuThrottled,
    kMemory,
    kMemoryLimit,
    kMemoryPercent,
    kProcessCpu,
    kProcessMemory,
    kProcessThreads,
    kProcessFiles,
    kProcessCount,
    kDiskRead,
    kDiskWritten,
    kDiskFree,
    kReceived,
    kSent,
    kFigures
  };
  void Add(Figure figure, double value) { summary_.Add(slots_[figure], value); }
  void SampleCpu(double now);
  void SampleMemory(double now);
  void SampleProcesses(double now);
  void SampleNetwork(double now);
  void SampleDisk(double now);
  double HostCpuSeconds();

  SystemSummary& summary_;
  std::array<size_t, kFigures> slots_{};
  std::array<char, 32768> buffer_;
  std::string disk_;
  Cgroup cgroup_;
  ProcessTree processes_;
  SampledFile host_stat_, host_memory_, network_;
  double cores_ = kNoFigure;              // that this process may run on
  double host_memory_bytes_ = kNoFigure;  // in all
  double file_cache_bytes_ = 0;           // of the cgroup, when it was last read
  double throttled_ = kNoFigure, periods_ = kNoFigure;
  Rate cpu_, process_cpu_, read_, written_, received_, sent_;
  Paced processes_paced_, cache_paced_, cpu_paced_, disk_paced_;
};

}  // namespace headrace::trace
