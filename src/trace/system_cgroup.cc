#include "trace/system_cgroup.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <utility>

namespace headrace::trace {

namespace {

bool Exists(const std::string& path) {
  struct stat facts {};
  return stat(path.c_str(), &facts) == 0;
}

double ReadNumber(const std::string& path) {
  std::array<char, 64> buffer;
  return FirstNumber(ReadOnce(path, buffer)).value_or(kNoFigure);
}

bool HasWord(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::string_view one = list.substr(0, list.find(','));
    if (one == word) return true;
    list.remove_prefix(std::min(one.size() + 1, list.size()));
  }
  return false;
}

// Of "4:cpu,cpuacct:/a/b" (version 1) and "0::/a/b" (version 2), the list of controllers and the path.
struct Line {
  std::string_view controllers, path;
};
Line ParseLine(std::string_view line) {
  const size_t first = line.find(':');
  const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
  if (second == line.npos) return {};
  return {line.substr(first + 1, second - first - 1), line.substr(second + 1)};
}

// The folder of a cgroup and those above it, up to where the hierarchy is mounted. A container sees its own
// cgroup as the mounted one, and may be told of a path that only the host has: folders that are not there are
// left out.
std::vector<std::string> Levels(const std::string& mounted, std::string_view path) {
  std::vector<std::string> levels;
  while (path.size() > 1) {
    const std::string folder = mounted + std::string(path);
    if (Exists(folder)) levels.push_back(folder);
    path = path.substr(0, path.rfind('/'));
  }
  if (Exists(mounted)) levels.push_back(mounted);
  return levels;
}

std::vector<std::string> LevelsV1(std::string_view text, const std::string& root,
                                  std::string_view controller) {
  while (!text.empty()) {
    const auto [controllers, path] = ParseLine(TakeLine(text));
    if (!HasWord(controllers, controller)) continue;
    const std::string together = root + "/" + std::string(controllers);
    return Levels(Exists(together) ? together : root + "/" + std::string(controller), path);
  }
  return {};
}

std::vector<std::string> LevelsV2(std::string_view text, const std::string& root) {
  while (!text.empty()) {
    const auto [controllers, path] = ParseLine(TakeLine(text));
    if (!controllers.empty() || path.empty()) continue;
    return Levels(Exists(root + "/cgroup.controllers") ? root : root + "/unified", path);
  }
  return {};
}

// Cores that "50000 100000" (version 2: quota and period) leaves; kNoFigure for "max 100000".
double CoresOfMax(const std::string& level) {
  std::array<char, 64> buffer;
  std::string_view text = ReadOnce(level + "/cpu.max", buffer);
  const auto quota = FirstNumber(TakeWord(text)), period = FirstNumber(text);
  return quota && period && *period > 0 ? *quota / *period : kNoFigure;
}

double CoresOfQuota(const std::string& level) {
  const double quota = ReadNumber(level + "/cpu.cfs_quota_us");
  const double period = ReadNumber(level + "/cpu.cfs_period_us");
  return quota > 0 && period > 0 ? quota / period : kNoFigure;  // -1 is no quota
}

}  // namespace

Cgroup::Cgroup(const std::string& process_folder, const std::string& root) {
  std::array<char, 16384> buffer;
  const std::string_view text = ReadOnce(process_folder + "/cgroup", buffer);
  const auto v2 = LevelsV2(text, root);
  LocateCpu(LevelsV1(text, root, "cpu"), LevelsV1(text, root, "cpuacct"));
  if (!cpu_usage_.ok()) LocateCpuV2(v2);
  LocateMemory(LevelsV1(text, root, "memory"), true);
  if (!memory_usage_.ok()) LocateMemory(v2, false);
}

void Cgroup::LocateCpu(const std::vector<std::string>& v1, const std::vector<std::string>& v1_usage) {
  size_t above = v1.size();  // folders from the tightest one up to the mounted one
  if (!v1.empty()) cpu_stat_ = SampledFile(v1[0] + "/cpu.stat");
  for (size_t i = 0; i < v1.size(); ++i) {
    const double cores = CoresOfQuota(v1[i]);
    if (!(cores > 0) || cores >= cpu_limit_cores_) continue;
    cpu_limit_cores_ = cores;
    cpu_stat_ = SampledFile(v1[i] + "/cpu.stat");
    above = v1.size() - i;
  }
  // Both controllers are one hierarchy nearly everywhere: usage is told at the level of the limit.
  if (v1_usage.empty()) return;
  const size_t level = v1_usage.size() > above ? v1_usage.size() - above : 0;
  cpu_usage_ = SampledFile(v1_usage[level] + "/cpuacct.usage");
  cpu_v1_ = cpu_usage_.ok();
}

void Cgroup::LocateCpuV2(const std::vector<std::string>& levels) {
  cpu_stat_ = SampledFile();
  cpu_limit_cores_ = kNoFigure;
  for (const std::string& level : levels) {
    const double cores = CoresOfMax(level);
    const bool tighter = cores > 0 && !(cores >= cpu_limit_cores_);
    if (!tighter && cpu_stat_.ok()) continue;
    SampledFile stat(level + "/cpu.stat");
    if (!stat.ok()) continue;
    cpu_stat_ = std::move(stat);
    if (tighter) cpu_limit_cores_ = cores;
  }
}

void Cgroup::LocateMemory(const std::vector<std::string>& levels, bool v1) {
  for (const std::string& level : levels) {
    // Without one, version 1 tells the largest multiple of a page: more than the host has.
    const double limit = ReadNumber(level + (v1 ? "/memory.limit_in_bytes" : "/memory.max"));
    const bool tighter = limit > 0 && !(limit >= memory_limit_bytes_);
    if (!tighter && memory_usage_.ok()) continue;
    SampledFile usage(level + (v1 ? "/memory.usage_in_bytes" : "/memory.current"));
    if (!usage.ok()) continue;  // the root of version 2 tells none
    memory_usage_ = std::move(usage);
    memory_stat_ = SampledFile(level + "/memory.stat");
    memory_v1_ = v1;
    if (tighter) memory_limit_bytes_ = limit;
  }
}

double Cgroup::CpuSeconds(std::span<char> buffer) const {
  if (cpu_v1_) return FirstNumber(cpu_usage_.Read(buffer)).value_or(kNoFigure) * 1e-9;
  return NumberOf(cpu_stat_.Read(buffer), "usage_usec").value_or(kNoFigure) * 1e-6;
}

Cgroup::Periods Cgroup::CpuPeriods(std::span<char> buffer) const {
  const std::string_view text = cpu_stat_.Read(buffer);
  return {NumberOf(text, "nr_periods").value_or(kNoFigure),
          NumberOf(text, "nr_throttled").value_or(kNoFigure)};
}

double Cgroup::MemoryBytes(std::span<char> buffer) const {
  return FirstNumber(memory_usage_.Read(buffer)).value_or(kNoFigure);
}

double Cgroup::FileCacheBytes(std::span<char> buffer) const {
  const std::string_view text = memory_stat_.Read(buffer);
  return NumberOf(text, memory_v1_ ? "total_inactive_file" : "inactive_file").value_or(kNoFigure);
}

}  // namespace headrace::trace
