// Against tests/nvml_stub.cc: eight GPUs, and what goes wrong with them.
#include "trace/system_gpus.h"

#include <dlfcn.h>

#include <atomic>
#include <condition_variable>
#include <thread>

#include "trace/system_testing.h"

namespace headrace::trace {
namespace {

constexpr double kGiB = 1 << 30;

std::string StubPath() {
  const auto program = std::filesystem::read_symlink("/proc/self/exe");
  return (program.parent_path().parent_path() / "stubs" / "libnvidia-ml.so.1").string();
}

class SystemGpus : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(std::filesystem::exists(StubPath())) << StubPath(); }
  void TearDown() override { unsetenv("HEADRACE_NVML_STUB"); }
  static void Stub(const char* words) { setenv("HEADRACE_NVML_STUB", words, 1); }

  static std::shared_ptr<SystemSampler> Sampler(std::optional<std::string> visible = {}) {
    auto made = SystemSampler::Create({.nvml = StubPath(), .cuda_visible_devices = std::move(visible)});
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return std::move(made).value();
  }
  // The names of the GPUs that have figures, in order.
  static std::string Names(std::optional<std::string> visible) {
    const auto sampler = Sampler(std::move(visible));
    sampler->Sample();
    std::string names;
    for (const SystemFigure& figure : sampler->Take()) {
      if (figure.key.ends_with("/memory_bytes")) names += figure.key.substr(0, figure.key.find('/')) + " ";
    }
    return names;
  }
};

TEST_F(SystemGpus, HaveTheirFiguresInTheirUnits) {
  const auto sampler = Sampler();
  for (int i = 0; i < 3; ++i) sampler->Sample();
  const auto figures = Summary(*sampler);
  for (int i = 0; i < 8; ++i) {
    const std::string gpu = "gpu." + std::to_string(i) + "/";
    EXPECT_EQ(Value(figures, gpu + "utilization_percent"), 90 + i);
    EXPECT_EQ(Value(figures, gpu + "memory_busy_percent"), 50 + i);
    EXPECT_EQ(Value(figures, gpu + "memory_bytes"), (i + 1) * kGiB);
    EXPECT_EQ(Value(figures, gpu + "memory_percent"), (i + 1) / 80.0 * 100);
    EXPECT_EQ(Value(figures, gpu + "temperature_celsius"), 40 + i);
    EXPECT_EQ(Value(figures, gpu + "sm_clock_mhz"), 1500 + i);
    EXPECT_EQ(Value(figures, gpu + "memory_clock_mhz"), 2600 + i);
    const SystemFigure& power = figures.at(gpu + "power_watts");
    EXPECT_NEAR(power.min, 100 + i, 1e-9);
    EXPECT_NEAR(power.mean, 110 + i, 1e-9);
    EXPECT_NEAR(power.max, 120 + i, 1e-9);
    EXPECT_EQ(power.samples, 3);
    EXPECT_EQ(Value(figures, gpu + "power_capped_percent"), i == 1 || i == 4 ? 100 : 0);
    EXPECT_EQ(Value(figures, gpu + "thermal_throttled_percent"), i == 2 || i == 4 ? 100 : 0);
    EXPECT_EQ(Value(figures, gpu + "slowed_percent"), i == 3 ? 100 : 0);
  }
  EXPECT_TRUE(sampler->TakeSaid().empty());
}

TEST_F(SystemGpus, OfCudaVisibleDevicesOnly) {
  EXPECT_EQ(Names("5,2"), "gpu.5 gpu.2 ");
  EXPECT_EQ(Names(" 3 , 3,4"), "gpu.3 gpu.4 ");
  EXPECT_EQ(Names("GPU-66-stub,GPU-1"), "gpu.6 gpu.1 ");
  EXPECT_EQ(Names("1,9,2"), "gpu.1 ") << "CUDA goes no further than one that is not there";
  EXPECT_EQ(Names("1,-1,2"), "gpu.1 ");
  EXPECT_EQ(Names("NoDevFiles"), "");
  EXPECT_EQ(Names(""), "");
  EXPECT_EQ(Names("GPU-,,"), "gpu.0 ");
  setenv("CUDA_VISIBLE_DEVICES", "7", 1);
  EXPECT_EQ(Names({}), "gpu.7 ");
  unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_EQ(Names({}), "gpu.0 gpu.1 gpu.2 gpu.3 gpu.4 gpu.5 gpu.6 gpu.7 ");
}

// Parts tell their memory; the rest belongs to the whole.
TEST_F(SystemGpus, APartOfOneIsNamedByBothNumbers) {
  EXPECT_EQ(Names("MIG-0a1b"), "gpu.0.mig.1 ");
  EXPECT_EQ(Names("MIG-ffff"), "");
  const auto sampler = Sampler("MIG-0a1b");
  sampler->Sample();
  const auto figures = Summary(*sampler);
  EXPECT_TRUE(figures.contains("gpu.0.mig.1/memory_percent"));
  EXPECT_FALSE(figures.contains("gpu.0.mig.1/power_watts"));
  EXPECT_TRUE(sampler->TakeSaid().empty());
}

TEST_F(SystemGpus, OneThatIsLostIsSaidOnce) {
  const auto sampler = Sampler();
  sampler->Sample();
  Summary(*sampler);
  Stub("lost=3");
  for (int i = 0; i < 3; ++i) sampler->Sample();
  const auto figures = Summary(*sampler);
  for (const auto& [key, figure] : figures) EXPECT_FALSE(key.starts_with("gpu.3/")) << key;
  EXPECT_EQ(figures.at("gpu.2/power_watts").samples, 3);
  EXPECT_EQ(figures.at("gpu.4/power_watts").samples, 3);
  const auto said = sampler->TakeSaid();
  ASSERT_EQ(said.size(), 1);
  EXPECT_NE(said[0].find("gpu.3 is lost"), std::string::npos) << said[0];
  // From the beginning, too.
  for (const std::optional<std::string>& visible :
       {std::optional<std::string>(), std::optional<std::string>("3,4")}) {
    const auto later = Sampler(visible);
    later->Sample();
    EXPECT_EQ(later->TakeSaid().size(), 1);
    EXPECT_TRUE(Summary(*later).contains("gpu.4/power_watts"));
  }
}

TEST_F(SystemGpus, OfAnotherJobOrWithoutAFigureAreLeftOut) {
  Stub("denied=2 powerless=4");
  const auto sampler = Sampler();
  for (int i = 0; i < 2; ++i) sampler->Sample();
  const auto figures = Summary(*sampler);
  EXPECT_FALSE(figures.contains("gpu.2/memory_bytes"));
  EXPECT_FALSE(figures.contains("gpu.4/power_watts"));
  EXPECT_TRUE(figures.contains("gpu.4/sm_clock_mhz"));
  EXPECT_TRUE(sampler->TakeSaid().empty());
}

TEST_F(SystemGpus, AnOlderDriverTellsMemoryWithWhatItReserves) {
  Stub("old");
  const auto sampler = Sampler("0");
  sampler->Sample();
  EXPECT_EQ(Value(Summary(*sampler), "gpu.0/memory_bytes"), 2 * kGiB);
}

TEST_F(SystemGpus, WithoutADriverThereAreNone) {
  Stub("init=9");  // a library without a driver: nothing to say
  const auto quiet = Sampler();
  quiet->Sample();
  EXPECT_TRUE(quiet->TakeSaid().empty());
  EXPECT_FALSE(Summary(*quiet).contains("gpu.0/memory_bytes"));
  Stub("init=18");  // of another version than the driver
  const auto loud = Sampler();
  loud->Sample();
  loud->Sample();
  EXPECT_EQ(loud->TakeSaid().size(), 1);
  const testing::TempFolder folder;
  for (const std::string& library : {std::string(), folder.path() + "/none.so", std::string("libdl.so.2")}) {
    ASSERT_VALUE(const auto sampler, SystemSampler::Create({.nvml = library}));
    sampler->Sample();
    EXPECT_EQ(sampler->TakeSaid().size(), library == "libdl.so.2" ? 1 : 0) << library;
    EXPECT_TRUE(Summary(*sampler).contains("memory_bytes"));
  }
}

// The thread that samples hangs, and nobody else.
TEST_F(SystemGpus, ADriverThatHangsHoldsOnlyItsThread) {
  const std::shared_ptr<SystemSampler> sampler = Sampler();
  sampler->Sample();
  Summary(*sampler);
  void* library = dlopen(StubPath().c_str(), RTLD_NOW);
  ASSERT_NE(library, nullptr);
  auto& hangs = *static_cast<std::atomic<bool>*>(dlsym(library, "nvml_stub_hangs"));
  hangs = true;
  std::mutex mutex;
  std::condition_variable changed;
  bool over = false;
  std::thread thread([&, sampler] {
    sampler->Sample();
    const std::lock_guard lock(mutex);
    over = true;
    changed.notify_all();
  });
  Figures figures;
  while (!figures.contains("memory_bytes"))
    figures = Summary(*sampler);  // the host's come before the driver is asked
  {
    const std::lock_guard lock(mutex);
    EXPECT_FALSE(over);
  }
  hangs = false;
  thread.join();
  EXPECT_TRUE(Summary(*sampler).contains("gpu.7/power_watts"));
}

}  // namespace
}  // namespace headrace::trace
