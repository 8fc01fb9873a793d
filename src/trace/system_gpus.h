// The figures of GPUs, by NVIDIA's management library (NVML), which comes with the driver: it is loaded where
// it is there, and nothing of it is needed to compile. Types and numbers are those of NVML's API reference
// (nvml.h of CUDA 12 and 13; functions and structures of a version have kept theirs since).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trace/system_summary.h"

namespace headrace::trace {

class GpuSampler {
 public:
  GpuSampler(std::string library, std::optional<std::string> visible, SystemSummary& summary);
  ~GpuSampler();

  // The first call loads the library and starts the driver. A GPU that is lost is said once, and not asked
  // any more; a figure that a GPU does not have is not asked for again. May hang where the driver does.
  void Sample();

 private:
  struct Nvml;
  struct Gpu;
  enum Figure : uint8_t {
    kUtilization,
    kMemoryBusy,
    kMemory,
    kMemoryPercent,
    kPower,
    kTemperature,
    kSmClock,
    kMemoryClock,
    kPowerCapped,
    kThermalThrottled,
    kSlowed,
    kFigures
  };
  void Start();
  void FindGpus();
  bool FindVisible(std::string_view name);
  void Declare(void* device, const std::string& name);
  void SampleGpu(Gpu& gpu);
  void SampleMemory(Gpu& gpu);
  void SampleClocks(Gpu& gpu);
  // Whether a call to NVML gave its figures; otherwise what is to be done about it is done.
  bool Gave(int32_t result, Gpu& gpu, Figure figure);

  std::string library_;
  std::optional<std::string> visible_;
  SystemSummary& summary_;
  bool started_ = false;
  std::unique_ptr<Nvml> nvml_;
  std::vector<Gpu> gpus_;
};

}  // namespace headrace::trace
