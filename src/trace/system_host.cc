#include "trace/system_host.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace headrace::trace {

namespace {

// In the order of HostSampler::Figure.
constexpr const char* kHostKeys[] = {"cpu_cores",
                                     "cpu_percent",
                                     "cpu_throttled_percent",
                                     "memory_bytes",
                                     "memory_limit_bytes",
                                     "memory_percent",
                                     "process_cpu_cores",
                                     "process_memory_bytes",
                                     "process_threads",
                                     "process_open_files",
                                     "process_count",
                                     "disk_read_bytes_per_second",
                                     "disk_written_bytes_per_second",
                                     "disk_free_bytes",
                                     "network_received_bytes_per_second",
                                     "network_sent_bytes_per_second"};

// Shares of a core that parts may take whose cost depends on the machine.
constexpr double kProcessesShare = 0.0004, kCgroupShare = 0.0001, kCpuShare = 0.0001, kDiskShare = 0.00005;
constexpr double kEachSample = 0.5;  // seconds: less than from one sample to the next

// Interfaces that carry what others carry too: loopback, containers, bridges, bonds of several, tunnels.
bool CountedElsewhere(std::string_view name) {
  constexpr std::string_view prefixes[] = {"veth",    "docker", "br",   "virbr",     "cni",
                                           "flannel", "wg",     "cali", "ifb",       "bond",
                                           "team",    "tap",    "tun",  "tailscale", "dummy"};
  return name == "lo" || name.find_first_of(".@") != name.npos ||
         std::ranges::any_of(prefixes, [&](std::string_view prefix) { return name.starts_with(prefix); });
}

// "Cpus_allowed:  f,ffffffff": the bits of hexadecimal numbers.
double CoresOf(std::string_view status) {
  while (!status.empty()) {
    std::string_view line = TakeLine(status);
    if (TakeWord(line) != "Cpus_allowed:") continue;
    int cores = 0;
    for (const char digit : TakeWord(line)) {
      unsigned value = 0;
      if (std::from_chars(&digit, &digit + 1, value, 16).ec == std::errc()) cores += std::popcount(value);
    }
    return cores > 0 ? cores : kNoFigure;
  }
  return kNoFigure;
}

}  // namespace

HostSampler::HostSampler(const HostPlaces& places, SystemSummary& summary)
    : summary_(summary),
      disk_(places.disk),
      cgroup_(places.proc + "/" + places.process, places.cgroup),
      processes_(places.proc, places.proc + "/" + places.process),
      host_stat_(places.proc + "/stat"),
      host_memory_(places.proc + "/meminfo"),
      network_(places.proc + "/" + places.process + "/net/dev"),
      processes_paced_(kProcessesShare, kEachSample),
      cache_paced_(kCgroupShare, kEachSample),
      cpu_paced_(kCpuShare, kEachSample),
      disk_paced_(kDiskShare, 5) {
  static_assert(std::size(kHostKeys) == kFigures);
  std::ranges::transform(kHostKeys, slots_.begin(), [&](const char* key) { return summary_.Declare(key); });
  cores_ = CoresOf(ReadOnce(places.proc + "/" + places.process + "/status", buffer_));
  host_memory_bytes_ = NumberOf(host_memory_.Read(buffer_), "MemTotal:").value_or(kNoFigure) * 1024;
}

void HostSampler::Sample(double now_seconds) {
  SampleCpu(now_seconds);
  SampleMemory(now_seconds);
  SampleNetwork(now_seconds);
  const auto paced = [&](Paced& pace, auto sample) {
    if (!pace.Due(now_seconds)) return;
    const double begin = ThreadCpuSeconds();
    (this->*sample)(now_seconds);
    pace.Took(ThreadCpuSeconds() - begin, now_seconds);
  };
  paced(processes_paced_, &HostSampler::SampleProcesses);
  paced(disk_paced_, &HostSampler::SampleDisk);
}

// Of /proc/stat: "cpu  user nice system idle iowait irq softirq steal …", in ticks; busy is all but two.
double HostSampler::HostCpuSeconds() {
  std::string_view text = host_stat_.Read(buffer_);
  std::string_view line = TakeLine(text);
  if (TakeWord(line) != "cpu") return kNoFigure;
  double busy = 0;
  for (int field = 0; field < 8; ++field) {
    const double ticks = FirstNumber(TakeWord(line)).value_or(kNoFigure);
    if (field != 3 && field != 4) busy += ticks;
  }
  return busy / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void HostSampler::SampleCpu(double now) {
  if (!cpu_paced_.Due(now))
    return;  // the host's counters take milliseconds where there are hundreds of cores
  const double begin = ThreadCpuSeconds();
  const double cores = cpu_.Next(cgroup_.tells_cpu() ? cgroup_.CpuSeconds(buffer_) : HostCpuSeconds(), now);
  Add(kCpuCores, cores);
  const double limit = std::fmin(cores_, cgroup_.cpu_limit_cores());  // the one that there is, of two
  Add(kCpuPercent, cores / limit * 100);
  const auto periods = cgroup_.CpuPeriods(buffer_);
  const double all = periods.all - periods_, throttled = periods.throttled - throttled_;
  periods_ = periods.all;
  throttled_ = periods.throttled;
  if (all >= 0 && throttled >= 0) Add(kCpuThrottled, all > 0 ? std::min(throttled / all, 1.0) * 100 : 0);
  cpu_paced_.Took(ThreadCpuSeconds() - begin, now);
}

void HostSampler::SampleMemory(double now) {
  double used = kNoFigure;
  if (cgroup_.tells_memory()) {
    if (cache_paced_.Due(now)) {  // adds up what each core has counted
      const double begin = ThreadCpuSeconds();
      const double cache = cgroup_.FileCacheBytes(buffer_);
      file_cache_bytes_ = std::isnan(cache) ? 0 : cache;
      cache_paced_.Took(ThreadCpuSeconds() - begin, now);
    }
    used = cgroup_.MemoryBytes(buffer_) - file_cache_bytes_;
    if (used < 0) used = 0;  // the cache was counted earlier
  } else {
    const double free = NumberOf(host_memory_.Read(buffer_), "MemAvailable:").value_or(kNoFigure) * 1024;
    used = host_memory_bytes_ - free;
  }
  const double limit = std::fmin(host_memory_bytes_, cgroup_.memory_limit_bytes());
  Add(kMemory, used);
  Add(kMemoryLimit, limit);
  Add(kMemoryPercent, limit > 0 ? used / limit * 100 : kNoFigure);
}

void HostSampler::SampleProcesses(double now) {
  const ProcessFigures figures = processes_.Read(buffer_);
  Add(kProcessCpu, process_cpu_.Next(figures.cpu_seconds, now));
  Add(kProcessMemory, figures.memory_bytes);
  Add(kProcessThreads, figures.threads);
  Add(kProcessFiles, figures.open_files);
  Add(kProcessCount, figures.count);
  Add(kDiskRead, read_.Next(figures.read_bytes, now));
  Add(kDiskWritten, written_.Next(figures.written_bytes, now));
}

// Lines "  eth0: received packets errs drop fifo frame compressed multicast sent …", below two of headings.
void HostSampler::SampleNetwork(double now) {
  std::string_view text = network_.Read(buffer_);
  double received = text.empty() ? kNoFigure : 0, sent = received;
  while (!text.empty()) {
    std::string_view line = TakeLine(text);
    const size_t colon = line.find(':');
    if (colon == line.npos) continue;
    std::string_view name = line.substr(0, colon);
    line.remove_prefix(colon + 1);
    if (CountedElsewhere(TakeWord(name))) continue;
    for (int field = 0; field < 9; ++field) {
      const auto number = FirstNumber(TakeWord(line));
      if (field == 0) received += number.value_or(0);
      if (field == 8) sent += number.value_or(0);
    }
  }
  Add(kReceived, received_.Next(received, now));
  Add(kSent, sent_.Next(sent, now));
}

void HostSampler::SampleDisk(double /*now*/) {
  struct statvfs facts {};
  if (disk_.empty() || statvfs(disk_.c_str(), &facts) != 0) return;
  Add(kDiskFree, static_cast<double>(facts.f_bavail) * static_cast<double>(facts.f_frsize));
}

}  // namespace headrace::trace
