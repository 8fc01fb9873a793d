// system_metrics: what the machine does while a run goes on, as figures to keep below sys/ of its metrics.
//
//   HEADRACE_ASSIGN(auto sampler, SystemSampler::Create({.disk = catalog_folder}));
//   in a thread of its own, each second:   sampler->Sample();
//   in any thread, each ten seconds:       for (const SystemFigure& figure : sampler->Take()) …
//
// Sample() may hang: in a GPU's driver, or in a file server that does not answer. Whoever owns its thread
// does not wait for it without a limit; the sampler is then left to that thread (a shared_ptr of it in both).
// Take() and TakeSaid() never wait for Sample().
//
//   cpu_cores, cpu_percent                  in use, of what the cgroup may use; of the host without a cgroup
//   cpu_throttled_percent                   of the scheduler's periods, those in which the quota was used up
//   memory_bytes, memory_limit_bytes,       in use, without the pages of files that the kernel would give
//   back memory_percent                          first; and what may be used process_cpu_cores,
//   process_memory_bytes of the process and all below it; memory is what is resident, so
//                                           that a page counts once for each process that holds it
//   process_threads, process_open_files     of the process alone
//   process_count                           the process and all below it
//   disk_read_bytes_per_second,             of the process and all below it, from storage and to it
//   disk_written_bytes_per_second
//   disk_free_bytes                         where `disk` lies, for this user
//   network_received_bytes_per_second,      of all interfaces but loopback and those of containers
//   network_sent_bytes_per_second
//   gpu.N/utilization_percent, gpu.N/memory_busy_percent, gpu.N/memory_bytes, gpu.N/memory_percent,
//   gpu.N/power_watts, gpu.N/temperature_celsius, gpu.N/sm_clock_mhz, gpu.N/memory_clock_mhz
//   gpu.N/power_capped_percent,             of the samples, those in which the clocks were held down for this
//   gpu.N/thermal_throttled_percent,        reason; "slowed" is what hardware did without a reason that is
//   gpu.N/slowed_percent                    known
// N is the GPU's number as nvidia-smi counts; a part of one (MIG) is gpu.N.mig.M. What can't be read is left
// out. The cgroup is, of ours and those that it is in, the one whose limit is the least: there the kernel
// stops us.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "trace/system_summary.h"

namespace headrace::trace {

struct SystemOptions {
  std::string proc = "/proc";
  std::string cgroup = "/sys/fs/cgroup";
  std::string nvml = "libnvidia-ml.so.1";  // as dlopen takes it; empty: no GPUs
  // GPUs to sample, as CUDA reads its variable of this name: numbers, or UUIDs or their beginnings, separated
  // by commas, up to the first that there is not. Nothing: the environment's; all GPUs where it is not set.
  std::optional<std::string> cuda_visible_devices;
  std::string disk;  // a path on the disk whose free bytes are told; empty: none
  int pid = 0;       // the process to tell of, and all below it; 0: this one
  std::function<double()> clock = MonotonicSeconds;  // seconds (tests)
};

class SystemSampler {
 public:
  // Quick: the driver is first met by Sample(). Invalid where `proc` is no procfs. In a child made by fork
  // this one is of no use: create another.
  static Result<std::unique_ptr<SystemSampler>> Create(const SystemOptions& options);
  ~SystemSampler();

  // Takes one sample, meant for each second; at most a thousandth of a core then. What takes long (thousands
  // of processes) is sampled less often. Not thread-safe with itself.
  void Sample();

  // The figures since the last call, without those that had no sample. Thread-safe.
  std::vector<SystemFigure> Take() { return summary_.Take(); }
  // What a person should hear of, once each: a GPU that was lost, a driver that does not start. Thread-safe.
  std::vector<std::string> TakeSaid() { return summary_.TakeSaid(); }

 private:
  SystemSampler();
  struct Parts;
  SystemSummary summary_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace headrace::trace
