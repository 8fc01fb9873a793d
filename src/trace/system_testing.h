// What the tests of the sampler share: a machine made of files, and the figures of one summary.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "testing.h"
#include "trace/system_metrics.h"

namespace headrace::trace {

using Figures = std::map<std::string, SystemFigure>;

inline Figures Summary(SystemSampler& sampler) {
  Figures figures;
  for (SystemFigure& figure : sampler.Take()) figures[figure.key] = figure;
  return figures;
}
// Of a figure that has one sample, or the same value in all.
inline std::optional<double> Value(const Figures& figures, const std::string& key) {
  const auto found = figures.find(key);
  if (found == figures.end()) return std::nullopt;
  EXPECT_EQ(found->second.min, found->second.max) << key;
  return found->second.mean;
}

// /proc and /sys/fs/cgroup as a test writes them, and a clock that it moves.
class FakeMachine {
 public:
  FakeMachine() {
    Write("proc/self/stat", Stat(100, 1, 0, 0));
    Write("proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n");
    Write("proc/meminfo", "MemTotal:  8000 kB\nMemFree:  1000 kB\nMemAvailable:  3000 kB\n");
    std::filesystem::create_directories(Path("cgroup"));
  }
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  void Write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(Path(name)).parent_path());
    std::ofstream(Path(name), std::ios::trunc) << text;
  }
  void Remove(const std::string& name) const { std::filesystem::remove_all(Path(name)); }

  // /proc/PID/stat: `ticks` of its own and of children that it waited for, resident pages.
  static std::string Stat(int pid, int parent, int64_t ticks, int64_t pages, int64_t children_ticks = 0) {
    return std::to_string(pid) + " (a) b (c)) S " + std::to_string(parent) + " 1 1 0 -1 4194560 9 9 0 0 " +
           std::to_string(ticks) + " 0 " + std::to_string(children_ticks) + " 0 20 0 7 0 12345 999999 " +
           std::to_string(pages) + " 18446744073709551615 1 1\n";
  }

  std::unique_ptr<SystemSampler> Sampler() {
    auto made = SystemSampler::Create({.proc = Path("proc"),
                                       .cgroup = Path("cgroup"),
                                       .nvml = "",
                                       .cuda_visible_devices = {},
                                       .disk = {},
                                       .clock = [this] { return now; }});
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return std::move(made).value();
  }
  // Seconds between two samples: so many that all that is paced by its cost is due.
  static constexpr double kStep = 1000;
  void Sample(SystemSampler& sampler) {
    now += kStep;
    sampler.Sample();
  }
  double now = 1000;

 private:
  testing::TempFolder folder_;
};

}  // namespace headrace::trace
