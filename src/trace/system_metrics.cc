#include "trace/system_metrics.h"

#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "trace/system_gpus.h"
#include "trace/system_host.h"

namespace headrace::trace {

struct SystemSampler::Parts {
  HostSampler host;
  GpuSampler gpus;
  std::function<double()> clock;
};

SystemSampler::SystemSampler() = default;
SystemSampler::~SystemSampler() = default;

Result<std::unique_ptr<SystemSampler>> SystemSampler::Create(const SystemOptions& options) {
  const std::string process = options.pid == 0 ? "self" : std::to_string(options.pid);
  const std::string stat = options.proc + "/" + process + "/stat";
  if (access(stat.c_str(), R_OK) != 0) {
    return Status::Invalid("no system metrics: there is no " + stat);
  }
  std::optional<std::string> visible = options.cuda_visible_devices;
  const char* set = getenv("CUDA_VISIBLE_DEVICES");
  if (!visible && set != nullptr) visible = set;
  std::unique_ptr<SystemSampler> sampler(new SystemSampler());
  SystemSummary& summary = sampler->summary_;
  sampler->parts_.reset(new Parts{
      HostSampler({options.proc, options.cgroup, options.disk, process}, summary),
      GpuSampler(options.nvml, std::move(visible), summary),
      options.clock,
  });
  return sampler;
}

void SystemSampler::Sample() {
  parts_->host.Sample(parts_->clock());
  parts_->gpus.Sample();
}

}  // namespace headrace::trace
