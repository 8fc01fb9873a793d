// A libnvidia-ml.so.1 of eight GPUs for tests and benchmarks, with the functions that trace/system_gpus.cc
// asks for. What goes wrong is told by words in HEADRACE_NVML_STUB, which may change at any time:
//   init=N          nvmlInit_v2 gives error N
//   lost=I          GPU I fell off the bus
//   denied=I        GPU I is another job's
//   powerless=I     GPU I tells no power
//   old             a driver without nvmlDeviceGetMemoryInfo_v2
// nvml_stub_hangs: a driver that does not answer while it is set.
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
std::atomic<bool> nvml_stub_hangs = false;
}

namespace {

constexpr int32_t kSuccess = 0, kUninitialized = 1, kInvalidArgument = 2, kNotSupported = 3,
                  kNoPermission = 4, kNotFound = 6, kFunctionNotFound = 13, kGpuIsLost = 15;
constexpr uint32_t kGpus = 8;
constexpr uint64_t kGibibyte = 1 << 30;

struct Device {
  uint32_t index;
  bool part;           // of GPU 0 (MIG)
  uint32_t asked = 0;  // for its power
};
Device devices[kGpus] = {{0, false}, {1, false}, {2, false}, {3, false},
                         {4, false}, {5, false}, {6, false}, {7, false}};
Device part = {1, true};
int started = 0;  // times

bool Told(const char* word) {
  const char* told = getenv("HEADRACE_NVML_STUB");
  return told != nullptr && strstr(told, word) != nullptr;
}
bool Told(const char* word, uint32_t index) {
  char text[32];
  snprintf(text, sizeof text, "%s=%u", word, index);
  return Told(text);
}

// The state of a GPU, before it is asked for anything.
int32_t State(const Device* device) {
  while (nvml_stub_hangs) usleep(1000);
  if (started == 0) return kUninitialized;
  if (!device->part && Told("denied", device->index)) return kNoPermission;
  return !device->part && Told("lost", device->index) ? kGpuIsLost : kSuccess;
}
int32_t StateOfWhole(const Device* device) { return device->part ? kNotSupported : State(device); }

template <typename T>
int32_t Give(int32_t state, T* out, T value) {
  if (state == kSuccess) *out = value;
  return state;
}

}  // namespace

extern "C" {

struct StubUtilization {
  uint32_t gpu, memory;
};
struct StubMemory {
  uint64_t total, free, used;
};
struct StubMemoryV2 {
  uint32_t version;
  uint64_t total, reserved, free, used;
};

int32_t nvmlInit_v2() {
  const char* told = getenv("HEADRACE_NVML_STUB");
  const char* error = told == nullptr ? nullptr : strstr(told, "init=");
  if (error != nullptr) return atoi(error + 5);
  ++started;
  return kSuccess;
}
int32_t nvmlShutdown() {
  --started;
  return kSuccess;
}
const char* nvmlErrorString(int32_t error) { return error == kGpuIsLost ? "GPU is lost" : "Some error"; }

int32_t nvmlDeviceGetCount_v2(uint32_t* count) {
  return Give(started > 0 ? kSuccess : kUninitialized, count, kGpus);
}
int32_t nvmlDeviceGetHandleByIndex_v2(uint32_t index, Device** device) {
  if (index >= kGpus) return kInvalidArgument;
  return Give(State(&devices[index]), device, &devices[index]);
}
int32_t nvmlDeviceGetHandleByUUID(const char* uuid, Device** device) {
  return Give(strcmp(uuid, "MIG-0a1b") == 0 ? kSuccess : kNotFound, device, &part);
}
int32_t nvmlDeviceGetUUID(Device* device, char* uuid, uint32_t length) {
  snprintf(uuid, length, "GPU-%u%u-stub", device->index, device->index);
  return State(device);
}
int32_t nvmlDeviceGetIndex(Device* device, uint32_t* index) {
  return Give(State(device), index, device->index);
}
int32_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device* device, Device** whole) {
  return Give(device->part ? kSuccess : kInvalidArgument, whole, &devices[0]);
}

int32_t nvmlDeviceGetUtilizationRates(Device* device, StubUtilization* busy) {
  return Give(StateOfWhole(device), busy, {90 + device->index, 50 + device->index});
}
int32_t nvmlDeviceGetMemoryInfo(Device* device, StubMemory* memory) {
  const uint64_t used = (device->index + 2) * kGibibyte;  // with the one that is reserved
  return Give(State(device), memory, {80 * kGibibyte, 80 * kGibibyte - used, used});
}
int32_t nvmlDeviceGetMemoryInfo_v2(Device* device, StubMemoryV2* memory) {
  if (Told("old")) return kFunctionNotFound;
  if (memory->version != (sizeof(StubMemoryV2) | 2U << 24))
    return 25;  // NVML_ERROR_ARGUMENT_VERSION_MISMATCH
  const uint64_t used = (device->index + 1) * kGibibyte;
  return Give(State(device), memory,
              {memory->version, 80 * kGibibyte, kGibibyte, 79 * kGibibyte - used, used});
}
// 100, 110, 120, 100 … W, and one more for each GPU.
int32_t nvmlDeviceGetPowerUsage(Device* device, uint32_t* milliwatts) {
  if (Told("powerless", device->index)) return kNotSupported;
  const uint32_t watts = 100 + device->index + device->asked++ % 3 * 10;
  return Give(StateOfWhole(device), milliwatts, watts * 1000);
}
int32_t nvmlDeviceGetTemperature(Device* device, uint32_t sensor, uint32_t* celsius) {
  return sensor != 0 ? kInvalidArgument : Give(StateOfWhole(device), celsius, 40 + device->index);
}
int32_t nvmlDeviceGetClockInfo(Device* device, uint32_t clock, uint32_t* megahertz) {
  if (clock > 3) return kInvalidArgument;
  return Give(StateOfWhole(device), megahertz, (clock == 1 ? 1500 : 2600) + device->index);
}
// GPU 0 is idle, 1 at its power limit, 2 too hot, 3 slowed, 4 heated and braked, the others run freely.
int32_t nvmlDeviceGetCurrentClocksEventReasons(Device* device, uint64_t* reasons) {
  constexpr uint64_t kReasons[kGpus] = {0x1, 0x4, 0x48, 0x8, 0x20 | 0x80 | 0x8, 0, 0, 0};
  return Give(StateOfWhole(device), reasons, kReasons[device->index]);
}

}  // extern "C"
