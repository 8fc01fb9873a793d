// What the sampler of system metrics costs: samples of a machine with eight GPUs (of the stub) and loaders,
// one a second by its own clock, with the processor's caches cleared between two, as other work does in a
// second.
//   bench_system_metrics SAMPLES LOADERS NVML      → {"cpu_seconds", "share", "figures"} as JSON
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "trace/system_metrics.h"
#include "trace/system_reading.h"

using namespace headrace;         // NOLINT: a program, not a header
using namespace headrace::trace;  // NOLINT: likewise

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const int samples = std::stoi(argv[1]), loaders = std::stoi(argv[2]);
  std::vector<pid_t> children;
  for (int i = 0; i < loaders; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      for (;;) pause();
    }
    children.push_back(child);
  }
  double now = 0, cpu = 0;
  auto made = SystemSampler::Create({.nvml = argv[3], .disk = "/", .clock = [&] { return now; }});
  if (!made.ok()) {
    std::fprintf(stderr, "%s\n", made.status().ToString().c_str());
    return 1;
  }
  const auto& sampler = *made;
  std::vector<char> other(64 << 20);
  sampler->Sample();  // starts the driver
  size_t figures = 0;
  for (int i = 1; i <= samples; ++i) {
    std::memset(other.data(), i, other.size());
    now = i;
    const double begin = ThreadCpuSeconds();
    sampler->Sample();
    if (i % 10 == 0) figures = sampler->Take().size();
    cpu += ThreadCpuSeconds() - begin;
  }
  for (const pid_t child : children) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  std::printf("{\"cpu_seconds\": %.6f, \"share\": %.8f, \"figures\": %zu}\n", cpu, cpu / samples, figures);
  return 0;
}
