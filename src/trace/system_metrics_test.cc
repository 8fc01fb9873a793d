#include "trace/system_metrics.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmath>
#include <random>
#include <thread>

#include "base/file.h"
#include "trace/system_testing.h"

namespace headrace::trace {
namespace {

constexpr double kMiB = 1 << 20;

std::string CpuStat(int64_t usec, int64_t periods, int64_t throttled) {
  return "usage_usec " + std::to_string(usec) + "\nuser_usec 1\nsystem_usec 1\nnr_periods " +
         std::to_string(periods) + "\nnr_throttled " + std::to_string(throttled) + "\nthrottled_usec 5\n";
}

// A job's cgroup with limits, and the step's below it without.
void WriteV2(const FakeMachine& machine) {
  machine.Write("proc/self/cgroup", "0::/job/step\n");
  machine.Write("cgroup/cgroup.controllers", "cpu memory\n");
  machine.Write("cgroup/cpu.stat", CpuStat(900'000'000, 0, 0));
  machine.Write("cgroup/job/cpu.max", "200000 100000\n");
  machine.Write("cgroup/job/cpu.stat", CpuStat(5'000'000, 100, 10));
  machine.Write("cgroup/job/memory.max", "4194304\n");
  machine.Write("cgroup/job/memory.current", "3145728\n");
  machine.Write("cgroup/job/memory.stat",
                "anon 1\nfile 2\ninactive_anon 7\ninactive_file 1048576\nactive_file 3\n");
  machine.Write("cgroup/job/step/cpu.max", "max 100000\n");
  machine.Write("cgroup/job/step/cpu.stat", CpuStat(1'000'000, 0, 0));
  machine.Write("cgroup/job/step/memory.max", "max\n");
  machine.Write("cgroup/job/step/memory.current", "1000\n");
}

TEST(SystemMetrics, TheTightestCgroupIsToldInVersion2) {
  FakeMachine machine;
  WriteV2(machine);
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  auto figures = Summary(*sampler);
  EXPECT_EQ(Value(figures, "memory_bytes"), 2 * kMiB);
  EXPECT_EQ(Value(figures, "memory_limit_bytes"), 4 * kMiB);
  EXPECT_EQ(Value(figures, "memory_percent"), 50);
  EXPECT_EQ(Value(figures, "cpu_cores"), std::nullopt) << "a rate has a beginning";

  machine.Write("cgroup/job/cpu.stat", CpuStat(1'505'000'000, 140, 20));
  machine.Sample(*sampler);
  figures = Summary(*sampler);
  EXPECT_NEAR(Value(figures, "cpu_cores").value_or(-1), 1.5, 1e-9);
  EXPECT_NEAR(Value(figures, "cpu_percent").value_or(-1), 75, 1e-9);  // of two cores
  EXPECT_EQ(Value(figures, "cpu_throttled_percent"), 25);
}

TEST(SystemMetrics, Version1) {
  FakeMachine machine;
  machine.Write("proc/self/cgroup", "4:memory:/job/step\n3:cpu,cpuacct:/job/step\n1:name=systemd:/x\n0::/\n");
  machine.Write("cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "400000\n");
  machine.Write("cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  machine.Write("cgroup/cpu,cpuacct/job/cpu.stat", "nr_periods 1\nnr_throttled 0\nthrottled_time 0\n");
  machine.Write("cgroup/cpu,cpuacct/job/cpuacct.usage", "7000000000\n");
  machine.Write("cgroup/cpu,cpuacct/job/step/cpu.cfs_quota_us", "-1\n");
  machine.Write("cgroup/cpu,cpuacct/job/step/cpu.cfs_period_us", "100000\n");
  machine.Write("cgroup/cpu,cpuacct/job/step/cpu.stat", "nr_periods 0\nnr_throttled 0\n");
  machine.Write("cgroup/cpu,cpuacct/job/step/cpuacct.usage", "1\n");
  machine.Write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  machine.Write("cgroup/memory/memory.usage_in_bytes", "99999999\n");
  machine.Write("cgroup/memory/job/memory.limit_in_bytes", "2097152\n");
  machine.Write("cgroup/memory/job/memory.usage_in_bytes", "1572864\n");
  machine.Write("cgroup/memory/job/memory.stat", "inactive_file 3\ntotal_inactive_file 524288\n");
  machine.Write("cgroup/memory/job/step/memory.limit_in_bytes", "9223372036854771712\n");
  machine.Write("cgroup/memory/job/step/memory.usage_in_bytes", "77\n");
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  machine.Write("cgroup/cpu,cpuacct/job/cpuacct.usage", "3007000000000\n");
  machine.Write("cgroup/cpu,cpuacct/job/cpu.stat", "nr_periods 11\nnr_throttled 4\nthrottled_time 9\n");
  machine.Sample(*sampler);
  const auto figures = Summary(*sampler);
  EXPECT_NEAR(Value(figures, "cpu_cores").value_or(-1), 3, 1e-9);
  EXPECT_NEAR(Value(figures, "cpu_percent").value_or(-1), 75, 1e-9);
  EXPECT_EQ(Value(figures, "cpu_throttled_percent"), 40);
  EXPECT_EQ(Value(figures, "memory_bytes"), kMiB);
  EXPECT_EQ(Value(figures, "memory_percent"), 50);
}

TEST(SystemMetrics, ControllersOfBothVersions) {
  FakeMachine machine;
  machine.Write("proc/self/cgroup", "2:memory:/m\n0::/u\n");
  machine.Write("cgroup/memory/m/memory.usage_in_bytes", "4096\n");
  machine.Write("cgroup/memory/m/memory.limit_in_bytes", "8192\n");
  machine.Write("cgroup/unified/u/cpu.stat", "usage_usec 0\n");
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  machine.Write("cgroup/unified/u/cpu.stat", "usage_usec 4000000000\n");
  machine.Sample(*sampler);
  const auto figures = Summary(*sampler);
  EXPECT_EQ(Value(figures, "memory_percent"), 50);
  EXPECT_NEAR(Value(figures, "cpu_cores").value_or(-1), 4, 1e-9);
  EXPECT_NEAR(Value(figures, "cpu_percent").value_or(-1), 50, 1e-9) << "of the eight that it may run on";
  EXPECT_EQ(Value(figures, "cpu_throttled_percent"), std::nullopt) << "no controller, no periods";
}

// /proc/self/cgroup tells the path on the host, and the container's own cgroup is what is mounted.
TEST(SystemMetrics, AContainerSeesItsCgroupAtTheRoot) {
  FakeMachine machine;
  machine.Write("proc/self/cgroup", "0::/docker/0123abc\n");
  machine.Write("cgroup/cgroup.controllers", "memory\n");
  machine.Write("cgroup/memory.max", "8192\n");
  machine.Write("cgroup/memory.current", "2048\n");
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  EXPECT_EQ(Value(Summary(*sampler), "memory_percent"), 25);
}

TEST(SystemMetrics, WithoutALimitItIsTheHosts) {
  FakeMachine machine;
  WriteV2(machine);
  machine.Write("cgroup/job/memory.max", "max\n");
  machine.Write("cgroup/job/cpu.max", "max 100000\n");
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  machine.Write("cgroup/job/step/cpu.stat", CpuStat(4'001'000'000, 0, 0));
  machine.Sample(*sampler);
  const auto figures = Summary(*sampler);
  EXPECT_EQ(Value(figures, "memory_bytes"), 1000) << "our own cgroup's, not that of the one above";
  EXPECT_EQ(Value(figures, "memory_limit_bytes"), 8000 * 1024);
  EXPECT_NEAR(Value(figures, "cpu_percent").value_or(-1), 50, 1e-9);
}

TEST(SystemMetrics, WithoutACgroupTheHostIsTold) {
  FakeMachine machine;
  machine.Write("proc/stat", "cpu  100 0 0 1000 50 0 0 0 7 0\ncpu0 9 9 9\n");
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  const auto ticks = static_cast<int64_t>(sysconf(_SC_CLK_TCK)) * 500;
  machine.Write("proc/stat", "cpu  " + std::to_string(100 + ticks) + " 0 " + std::to_string(ticks) +
                                 " 99999 99999 0 0 0 7 0\ncpu0 9 9 9\n");
  machine.Sample(*sampler);
  const auto figures = Summary(*sampler);
  EXPECT_EQ(Value(figures, "memory_bytes"), 5000 * 1024);
  EXPECT_EQ(Value(figures, "memory_limit_bytes"), 8000 * 1024);
  EXPECT_NEAR(Value(figures, "cpu_cores").value_or(-1), 1, 1e-9);
}

TEST(SystemMetrics, ASummaryHasLeastMeanAndMost) {
  FakeMachine machine;
  WriteV2(machine);
  const auto sampler = machine.Sampler();
  for (const int64_t mebibytes : {2, 5, 3}) {
    machine.Write("cgroup/job/memory.current", std::to_string(mebibytes << 20));
    machine.Sample(*sampler);
  }
  const SystemFigure memory = Summary(*sampler)["memory_bytes"];  // less the mebibyte of cache
  EXPECT_EQ(memory.min, 1 * kMiB);
  EXPECT_EQ(memory.max, 4 * kMiB);
  EXPECT_NEAR(memory.mean, 7 * kMiB / 3, 1);
  EXPECT_EQ(memory.samples, 3);
  EXPECT_TRUE(sampler->Take().empty()) << "taken once";
}

TEST(SystemMetrics, WhatGoesAwayIsLeftOut) {
  FakeMachine machine;
  WriteV2(machine);
  machine.Write("proc/self/net/dev", "a|b\n c|d\n eth0: 5 0 0 0 0 0 0 0 7 0\n");
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  EXPECT_TRUE(Summary(*sampler).contains("memory_bytes"));
  // A removed cgroup reads as nothing; its file stays open.
  machine.Write("cgroup/job/memory.current", "");
  machine.Write("cgroup/job/memory.stat", "");
  machine.Write("cgroup/job/cpu.stat", "");
  machine.Write("proc/self/net/dev", "");
  machine.Remove("proc/self/stat");
  machine.Sample(*sampler);
  machine.Sample(*sampler);
  for (const auto& [key, figure] : Summary(*sampler)) {
    EXPECT_EQ(key, "memory_limit_bytes") << figure.mean;
  }
  // It is back, with counters that begin anew: no rate from before to now.
  machine.Write("cgroup/job/cpu.stat", CpuStat(10, 1, 1));
  machine.Sample(*sampler);
  EXPECT_FALSE(Summary(*sampler).contains("cpu_cores"));
  machine.Write("cgroup/job/cpu.stat", CpuStat(1'000'000'010, 2, 1));
  machine.Sample(*sampler);
  EXPECT_NEAR(Value(Summary(*sampler), "cpu_cores").value_or(-1), 1, 1e-9);
}

TEST(SystemMetrics, ACounterThatIsSetBackHasNoRate) {
  FakeMachine machine;
  WriteV2(machine);
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  machine.Write("cgroup/job/cpu.stat", CpuStat(3, 3, 3));
  machine.Sample(*sampler);
  const auto figures = Summary(*sampler);
  EXPECT_FALSE(figures.contains("cpu_cores"));
  EXPECT_FALSE(figures.contains("cpu_throttled_percent"));
}

TEST(SystemMetrics, GarbageIsLeftOutAndNeverCrashes) {
  std::mt19937 random(7);
  const std::vector<std::string> names = {"proc/self/cgroup",
                                          "proc/self/stat",
                                          "proc/self/status",
                                          "proc/self/io",
                                          "proc/self/net/dev",
                                          "proc/self/task/1/children",
                                          "proc/meminfo",
                                          "proc/stat",
                                          "cgroup/job/cpu.max",
                                          "cgroup/job/cpu.stat",
                                          "cgroup/job/memory.max",
                                          "cgroup/job/memory.stat",
                                          "cgroup/job/memory.current",
                                          "cgroup/cgroup.controllers"};
  const std::string alphabet("0123456789 \n\t:,.-/eEnaifmax()\0\xff", 31);
  for (int round = 0; round < testing::Scaled(200); ++round) {
    FakeMachine machine;
    WriteV2(machine);
    machine.Write("proc/self/io", "read_bytes: 5\nwrite_bytes: 6\n");
    const auto spoil = [&] {
      for (const std::string& name : names) {
        if (random() % 3 != 0) continue;
        std::string text;
        for (size_t length = random() % 200; text.size() < length;)
          text += alphabet[random() % alphabet.size()];
        machine.Write(name, text);
      }
    };
    if (round % 2 == 0) spoil();
    const auto sampler = machine.Sampler();
    for (int sample = 0; sample < 3; ++sample) {
      spoil();
      machine.Sample(*sampler);
    }
    for (const auto& [key, figure] : Summary(*sampler)) {
      EXPECT_TRUE(figure.min <= figure.mean && figure.mean <= figure.max) << key << ": " << figure.mean;
      EXPECT_TRUE(std::isfinite(figure.min) && std::isfinite(figure.max)) << key;
    }
  }
}

TEST(SystemMetrics, NetworkIsCountedOnce) {
  FakeMachine machine;
  const auto write = [&](int64_t received, int64_t sent) {
    const std::string middle = " 1 0 0 0 0 0 0 ", end = " 1 0 0 0 0 0 0\n";
    std::string text = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs|bytes\n";
    for (const char* name : {"    lo", "  eth0", "docker0", "veth12", "br-1f", "ib0", "eth0.7"}) {
      text += std::string(name) + ": " + std::to_string(received) + middle + std::to_string(sent) + end;
    }
    machine.Write("proc/self/net/dev", text);
  };
  write(0, 0);
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  write(1'000'000, 5'000);
  machine.Sample(*sampler);
  const auto figures = Summary(*sampler);
  EXPECT_EQ(Value(figures, "network_received_bytes_per_second"), 2'000);  // eth0 and ib0
  EXPECT_EQ(Value(figures, "network_sent_bytes_per_second"), 10);
}

void WriteProcess(const FakeMachine& machine, const std::string& name, const std::string& stat,
                  int64_t read) {
  machine.Write("proc/" + name + "/stat", stat);
  machine.Write("proc/" + name + "/io", "rchar: 9\nread_bytes: " + std::to_string(read) +
                                            "\nwrite_bytes: " + std::to_string(2 * read) + "\n");
}

// A process, two loaders of its, one that a loader started, and a stranger.
void WriteTree(const FakeMachine& machine, bool told) {
  WriteProcess(machine, "self", FakeMachine::Stat(100, 1, 1000, 10), 1000);
  WriteProcess(machine, "100", FakeMachine::Stat(100, 1, 1000, 10), 1000);
  WriteProcess(machine, "101", FakeMachine::Stat(101, 100, 100, 20), 100'000);
  WriteProcess(machine, "102", FakeMachine::Stat(102, 100, 100, 30), 0);
  WriteProcess(machine, "103", FakeMachine::Stat(103, 101, 100, 40), 0);
  WriteProcess(machine, "900", FakeMachine::Stat(900, 1, 5000, 7000), 1 << 30);
  if (!told) return;
  for (const char* name : {"self", "100"}) {
    machine.Write("proc/" + std::string(name) + "/task/100/children", "101 ");
    machine.Write("proc/" + std::string(name) + "/task/177/children", "102 ");
  }
  machine.Write("proc/101/task/101/children", "103 ");
  machine.Write("proc/102/task/102/children", "");
}

class SystemProcesses : public ::testing::TestWithParam<bool> {};

TEST_P(SystemProcesses, AreSummedOverTheTree) {
  FakeMachine machine;
  WriteTree(machine, GetParam());
  machine.Write("proc/self/fd/0", "");
  machine.Write("proc/self/fd/17", "");
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  const auto figures = Summary(*sampler);
  EXPECT_EQ(Value(figures, "process_count"), 4);
  EXPECT_EQ(Value(figures, "process_memory_bytes"), 100.0 * static_cast<double>(sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(Value(figures, "process_threads"), 7);
  EXPECT_GT(Value(figures, "process_open_files").value_or(0), 0);
}

// One that ended and was waited for is in its parent's counters: no jump, as if its whole life were this
// second.
TEST_P(SystemProcesses, ThatEndLeaveNoJump) {
  FakeMachine machine;
  WriteTree(machine, GetParam());
  const auto sampler = machine.Sampler();
  machine.Sample(*sampler);
  machine.Remove("proc/103");  // 101 waited for it, and we for 101
  machine.Remove("proc/101");
  const int64_t ticks = sysconf(_SC_CLK_TCK) * 100;
  WriteProcess(machine, "self", FakeMachine::Stat(100, 1, 1000 + ticks, 10, 200), 1000 + 100'000 + 5000);
  machine.Sample(*sampler);
  const auto figures = Summary(*sampler);
  EXPECT_NEAR(Value(figures, "process_cpu_cores").value_or(-1), 0.1, 1e-9);
  EXPECT_EQ(Value(figures, "disk_read_bytes_per_second"), 5);
  EXPECT_EQ(Value(figures, "disk_written_bytes_per_second"), 10);
}

INSTANTIATE_TEST_SUITE_P(Told, SystemProcesses, ::testing::Bool());

TEST(SystemMetrics, AFolderThatIsNoProcfsIsRefused) {
  const testing::TempFolder folder;
  EXPECT_EQ(SystemSampler::Create({.proc = folder.path()}).status().code(), Code::kInvalid);
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

// The kernel's own figures by another way: getrusage() around each sample.
TEST(SystemMetrics, ProcessorTimeIsThatOfGetrusage) {
  double now = 0;
  ASSERT_VALUE(const auto sampler, SystemSampler::Create({.nvml = "", .clock = [&] { return now += 1000; }}));
  const double before = CpuSeconds();
  sampler->Sample();
  const double begin = CpuSeconds();
  while (CpuSeconds() < begin + 0.3) {
  }
  const double end = CpuSeconds();
  sampler->Sample();
  const double after = CpuSeconds();
  const auto figure = Summary(*sampler)["process_cpu_cores"];
  ASSERT_EQ(figure.samples, 1);
  // Both times in both samples are cut off to ticks.
  const double ticks = 4.0 / static_cast<double>(sysconf(_SC_CLK_TCK));
  EXPECT_GE(figure.mean * 1000, end - begin - ticks);
  EXPECT_LE(figure.mean * 1000, after - before + ticks);
}

TEST(SystemMetrics, MemoryAndFilesOfThisProcess) {
  double now = 0;
  const testing::TempFolder folder;
  ASSERT_VALUE(
      const auto sampler,
      SystemSampler::Create({.nvml = "", .disk = folder.path(), .clock = [&] { return now += 1000; }}));
  const auto sampled = [&] {
    sampler->Sample();
    return Summary(*sampler);
  };
  const auto before = sampled();
  constexpr size_t kBytes = 256 << 20;
  void* held =
      mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  ASSERT_NE(held, MAP_FAILED);
  const Fd one(open("/dev/null", O_RDONLY)), two(open("/dev/null", O_RDONLY));
  const auto after = sampled();
  const double grown = *Value(after, "process_memory_bytes") - *Value(before, "process_memory_bytes");
  munmap(held, kBytes);
  // What the sampler itself and the counters' batches come to is less than a quarter of what was touched.
  EXPECT_NEAR(grown, kBytes, 0.25 * kBytes);
  EXPECT_EQ(*Value(after, "process_open_files") - *Value(before, "process_open_files"), 2);
  EXPECT_GE(*Value(after, "process_threads"), 1);
  EXPECT_GT(*Value(after, "disk_free_bytes"), 0);
  EXPECT_GT(*Value(after, "memory_limit_bytes"), 0);
  EXPECT_TRUE(after.contains("cpu_cores"));
}

TEST(SystemMetrics, AChildOfThisProcessCounts) {
  double now = 0;
  ASSERT_VALUE(const auto sampler, SystemSampler::Create({.nvml = "", .clock = [&] { return now += 1000; }}));
  sampler->Sample();
  const double alone = *Value(Summary(*sampler), "process_count");
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte = 0;
    close(pipes[1]);
    _exit(read(pipes[0], &byte, 1) == 0 ? 0 : 1);
  }
  sampler->Sample();
  EXPECT_EQ(*Value(Summary(*sampler), "process_count"), alone + 1);
  close(pipes[0]);
  close(pipes[1]);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  sampler->Sample();
  EXPECT_EQ(*Value(Summary(*sampler), "process_count"), alone);
}

}  // namespace
}  // namespace headrace::trace
