#include "trace/system_gpus.h"

#include <dlfcn.h>

#include <algorithm>
#include <bitset>
#include <charconv>
#include <type_traits>
#include <utility>

namespace headrace::trace {

namespace {

// In the order of GpuSampler::Figure.
constexpr const char* kGpuKeys[] = {
    "utilization_percent",  "memory_busy_percent",       "memory_bytes",  "memory_percent",
    "power_watts",          "temperature_celsius",       "sm_clock_mhz",  "memory_clock_mhz",
    "power_capped_percent", "thermal_throttled_percent", "slowed_percent"};

// nvmlReturn_t, what of it matters.
constexpr int32_t kSuccess = 0, kInvalidArgument = 2, kNotSupported = 3, kDriverNotLoaded = 9,
                  kGpuIsLost = 15;
// nvmlTemperatureSensors_t and nvmlClockType_t.
constexpr uint32_t kSensorGpu = 0, kClockSm = 1, kClockMemory = 2;
// nvmlClocksEventReasons: why clocks are below what they could be.
constexpr uint64_t kSwPowerCap = 0x4, kHwSlowdown = 0x8, kSwThermal = 0x20, kHwThermal = 0x40,
                   kHwPowerBrake = 0x80;

struct Utilization {  // nvmlUtilization_t: percent of the time of the last sample of the driver's
  uint32_t gpu, memory;
};
struct Memory {  // nvmlMemory_t: "used" holds what the driver keeps for itself
  uint64_t total, free, used;
};
struct MemoryV2 {  // nvmlMemory_v2_t: "used" does not, as in nvidia-smi
  uint32_t version = sizeof(MemoryV2) | 2U << 24;
  uint64_t total, reserved, free, used;
};
static_assert(sizeof(MemoryV2) == 40);

}  // namespace

struct GpuSampler::Nvml {
  int32_t (*init)();
  int32_t (*shutdown)();
  const char* (*error_text)(int32_t);
  int32_t (*count)(uint32_t*);
  int32_t (*by_index)(uint32_t, void**);
  int32_t (*uuid)(void*, char*, uint32_t);
  int32_t (*utilization)(void*, Utilization*);
  int32_t (*memory)(void*, Memory*);
  int32_t (*power)(void*, uint32_t*);
  int32_t (*temperature)(void*, uint32_t, uint32_t*);
  int32_t (*clock)(void*, uint32_t, uint32_t*);
  // Null in drivers that lack them.
  int32_t (*by_uuid)(const char*, void**);
  int32_t (*memory_v2)(void*, MemoryV2*);
  int32_t (*reasons)(void*, uint64_t*);
  int32_t (*index)(void*, uint32_t*);
  int32_t (*parent)(void*, void**);

  bool Load(void* library) {
    const auto find = [&](auto& function, std::initializer_list<const char*> names) {
      for (const char* name : names) {
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
        if (function != nullptr) return true;
      }
      return false;
    };
    find(by_uuid, {"nvmlDeviceGetHandleByUUID"});
    find(memory_v2, {"nvmlDeviceGetMemoryInfo_v2"});
    find(reasons, {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"});
    find(index, {"nvmlDeviceGetIndex"});
    find(parent, {"nvmlDeviceGetDeviceHandleFromMigDeviceHandle"});
    return find(init, {"nvmlInit_v2"}) && find(shutdown, {"nvmlShutdown"}) &&
           find(error_text, {"nvmlErrorString"}) && find(count, {"nvmlDeviceGetCount_v2"}) &&
           find(by_index, {"nvmlDeviceGetHandleByIndex_v2"}) && find(uuid, {"nvmlDeviceGetUUID"}) &&
           find(utilization, {"nvmlDeviceGetUtilizationRates"}) &&
           find(memory, {"nvmlDeviceGetMemoryInfo"}) && find(power, {"nvmlDeviceGetPowerUsage"}) &&
           find(temperature, {"nvmlDeviceGetTemperature"}) && find(clock, {"nvmlDeviceGetClockInfo"});
  }
};

struct GpuSampler::Gpu {
  void* device = nullptr;
  std::string name;  // "gpu.0"
  std::array<size_t, kFigures> slots{};
  std::bitset<kFigures> absent;  // figures that this GPU does not have
  bool lost = false;
};

GpuSampler::GpuSampler(std::string library, std::optional<std::string> visible, SystemSummary& summary)
    : library_(std::move(library)), visible_(std::move(visible)), summary_(summary) {}

GpuSampler::~GpuSampler() {
  if (nvml_) nvml_->shutdown();
}

void GpuSampler::Sample() {
  if (!std::exchange(started_, true)) Start();
  for (Gpu& gpu : gpus_) SampleGpu(gpu);
}

void GpuSampler::Start() {
  if (library_.empty()) return;
  // Never unloaded: the driver may have threads of its own.
  void* library = dlopen(library_.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;  // no driver: no GPU
  auto nvml = std::make_unique<Nvml>();
  if (!nvml->Load(library)) {
    summary_.Say("no figures of GPUs: " + library_ + " lacks functions that NVML has");
    return;
  }
  const int32_t result = nvml->init();
  if (result != kSuccess) {
    // A library without a driver is what images for GPUs hold on machines without any.
    if (result != kDriverNotLoaded) {
      summary_.Say(std::string("no figures of GPUs: NVML does not start: ") + nvml->error_text(result));
    }
    return;
  }
  nvml_ = std::move(nvml);
  FindGpus();
}

void GpuSampler::FindGpus() {
  if (!visible_) {
    uint32_t count = 0;
    if (nvml_->count(&count) != kSuccess) return;
    for (uint32_t i = 0; i < count; ++i) {
      void* device = nullptr;
      const int32_t result = nvml_->by_index(i, &device);  // of one that is another job's: no permission
      if (result == kSuccess) Declare(device, "gpu." + std::to_string(i));
      if (result == kGpuIsLost) summary_.Say("gpu." + std::to_string(i) + " is lost: no figures of it");
    }
    return;
  }
  std::string_view rest = *visible_;
  while (!rest.empty()) {
    const std::string_view name = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(name.size() + 1, rest.size()));
    if (!FindVisible(name)) return;  // CUDA goes no further either
  }
}

// Whether there is such a GPU. A number, "GPU-<uuid>", a part of that from its beginning, or "MIG-<uuid>".
bool GpuSampler::FindVisible(std::string_view name) {
  name.remove_prefix(std::min(name.find_first_not_of(' '), name.size()));
  name = name.substr(0, name.find_last_not_of(' ') + 1);
  void* device = nullptr;
  if (name.starts_with("MIG-")) {
    void* parent = nullptr;
    uint32_t whole = 0, part = 0;
    const bool found = nvml_->by_uuid != nullptr && nvml_->parent != nullptr && nvml_->index != nullptr &&
                       nvml_->by_uuid(std::string(name).c_str(), &device) == kSuccess &&
                       nvml_->parent(device, &parent) == kSuccess &&
                       nvml_->index(parent, &whole) == kSuccess && nvml_->index(device, &part) == kSuccess;
    if (found) Declare(device, "gpu." + std::to_string(whole) + ".mig." + std::to_string(part));
    return found;
  }
  uint32_t number = 0, count = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool is_number = error == std::errc() && end == name.data() + name.size();
  if ((!is_number && !name.starts_with("GPU-")) || nvml_->count(&count) != kSuccess) return false;
  for (uint32_t i = is_number ? number : 0; i < (is_number ? std::min(count, number + 1) : count); ++i) {
    const int32_t result = nvml_->by_index(i, &device);
    if (is_number && result == kGpuIsLost) {
      summary_.Say("gpu." + std::to_string(i) + " is lost: no figures of it");
      return true;
    }
    if (result != kSuccess) continue;
    std::array<char, 96> uuid{};  // NVML_DEVICE_UUID_V2_BUFFER_SIZE
    const bool matches = is_number || (nvml_->uuid(device, uuid.data(), uuid.size()) == kSuccess &&
                                       std::string_view(uuid.data()).starts_with(name));
    if (!matches) continue;
    Declare(device, "gpu." + std::to_string(i));
    return true;
  }
  return false;
}

void GpuSampler::Declare(void* device, const std::string& name) {
  if (std::ranges::any_of(gpus_, [&](const Gpu& gpu) { return gpu.name == name; })) return;
  Gpu gpu{.device = device, .name = name};
  std::ranges::transform(kGpuKeys, gpu.slots.begin(),
                         [&](const char* key) { return summary_.Declare(name + "/" + key); });
  gpus_.push_back(std::move(gpu));
}

bool GpuSampler::Gave(int32_t result, Gpu& gpu, Figure figure) {
  if (result == kSuccess) return true;
  if (result == kNotSupported || result == kInvalidArgument) gpu.absent.set(figure);
  if (result == kGpuIsLost && !std::exchange(gpu.lost, true)) {
    summary_.Say(gpu.name + " is lost (" + nvml_->error_text(result) + "): no figures of it from here on");
  }
  return false;
}

void GpuSampler::SampleGpu(Gpu& gpu) {
  static_assert(std::size(kGpuKeys) == kFigures);
  const auto asked = [&](Figure figure) { return !gpu.lost && !gpu.absent[figure]; };
  Utilization busy{};
  if (asked(kUtilization) && Gave(nvml_->utilization(gpu.device, &busy), gpu, kUtilization)) {
    summary_.Add(gpu.slots[kUtilization], busy.gpu);
    summary_.Add(gpu.slots[kMemoryBusy], busy.memory);
  }
  if (asked(kMemory)) SampleMemory(gpu);
  uint32_t milliwatts = 0, celsius = 0;
  if (asked(kPower) && Gave(nvml_->power(gpu.device, &milliwatts), gpu, kPower)) {
    summary_.Add(gpu.slots[kPower], milliwatts * 1e-3);
  }
  if (asked(kTemperature) && Gave(nvml_->temperature(gpu.device, kSensorGpu, &celsius), gpu, kTemperature)) {
    summary_.Add(gpu.slots[kTemperature], celsius);
  }
  SampleClocks(gpu);
}

void GpuSampler::SampleMemory(Gpu& gpu) {
  double used = 0, total = 0;
  MemoryV2 newer{};
  if (nvml_->memory_v2 != nullptr && nvml_->memory_v2(gpu.device, &newer) == kSuccess) {
    used = static_cast<double>(newer.used);
    total = static_cast<double>(newer.total);
  } else {
    Memory memory{};
    if (!Gave(nvml_->memory(gpu.device, &memory), gpu, kMemory)) return;
    used = static_cast<double>(memory.used);
    total = static_cast<double>(memory.total);
  }
  summary_.Add(gpu.slots[kMemory], used);
  if (total > 0) summary_.Add(gpu.slots[kMemoryPercent], used / total * 100);
}

void GpuSampler::SampleClocks(Gpu& gpu) {
  const auto asked = [&](Figure figure) { return !gpu.lost && !gpu.absent[figure]; };
  uint32_t megahertz = 0;
  if (asked(kSmClock) && Gave(nvml_->clock(gpu.device, kClockSm, &megahertz), gpu, kSmClock)) {
    summary_.Add(gpu.slots[kSmClock], megahertz);
  }
  if (asked(kMemoryClock) && Gave(nvml_->clock(gpu.device, kClockMemory, &megahertz), gpu, kMemoryClock)) {
    summary_.Add(gpu.slots[kMemoryClock], megahertz);
  }
  uint64_t reasons = 0;
  if (nvml_->reasons == nullptr || !asked(kPowerCapped)) return;
  if (!Gave(nvml_->reasons(gpu.device, &reasons), gpu, kPowerCapped)) return;
  const bool power = (reasons & (kSwPowerCap | kHwPowerBrake)) != 0;
  const bool thermal = (reasons & (kSwThermal | kHwThermal)) != 0;
  // Hardware's slowdown is set beside the brake or the heat that made it.
  const bool slowed = (reasons & kHwSlowdown) != 0 && (reasons & (kHwThermal | kHwPowerBrake)) == 0;
  summary_.Add(gpu.slots[kPowerCapped], power ? 100 : 0);
  summary_.Add(gpu.slots[kThermalThrottled], thermal ? 100 : 0);
  summary_.Add(gpu.slots[kSlowed], slowed ? 100 : 0);
}

}  // namespace headrace::trace
