// ggml's backends: what computes. libggml finds none by itself: the CPU's is chosen here among the variants
// beside it (one per instruction set), and an accelerator's is loaded where its file is there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::model {

// A CPU backend beside libggml. `score`: 0 where this machine cannot run it, else the more the better.
struct CpuVariant {
  std::string name;  // "haswell", "zen4"; "native" for the one that ./dev setup engine --from-source builds
  int score = 0;
  std::string path;
};

// The variant to load: the one named `wanted`, or the best where it is "". Variants with AMX are taken by
// name only (decision 020). Errors name the variants that this machine can run.
Result<CpuVariant> ChooseCpu(const std::vector<CpuVariant>& variants, std::string_view wanted);

struct Device {
  std::string name;                           // "CPU", "CUDA0", "Vulkan0"
  std::string description;                    // the device's own words
  std::string kind;                           // "cpu", "gpu", "integrated gpu", "accelerator"
  int64_t memory_free = 0, memory_total = 0;  // bytes
};

// What was loaded, and what could not be.
struct Backends {
  std::string cpu;                    // the CPU variant's name
  std::vector<Device> devices;        // accelerators first
  std::vector<std::string> problems;  // backends whose file is there and does not load: "libggml-cuda.so: …"
};

// Loads the backends, once in a process, and says what they are. HEADRACE_CPU names a CPU variant;
// HEADRACE_BACKENDS names further folders, separated by colons (default: each folder in
// ~/.cache/headrace/backends). Errors: no backend beside libggml, a variant that is not there or that this
// machine cannot run, headers and library of different versions.
Result<Backends> LoadBackends();

}  // namespace headrace::model
