#include "cli/devices.h"

#include "base/json.h"
#include "cli/render.h"

namespace headrace::cli {

std::vector<CLI::Option*> AddDeviceOptions(CLI::App* command, model::LoadOptions* options) {
  return {command
              ->add_option("--gpu-layers", options->gpu_layers,
                           "Layers of each model on accelerators (default: all that fit)")
              ->check(CLI::NonNegativeNumber),
          command
              ->add_option("--device", options->devices,
                           "Accelerators to use, like CUDA0,CUDA1; none: the CPU alone (default: all)")
              ->delimiter(',')};
}

std::vector<std::string> DeviceLines(const model::Backends& backends) {
  std::vector<std::string> lines;
  bool accelerated = false;
  for (const model::Device& one : backends.devices) {
    std::string line = one.name + ": " + one.description;
    if (one.kind == "cpu") {
      line += " (ggml's '" + backends.cpu + "' kernels)";
    } else {
      accelerated = true;
      line += ", " + HumanBytes(static_cast<double>(one.memory_free)) + " of " +
              HumanBytes(static_cast<double>(one.memory_total)) + " free";
    }
    lines.push_back(std::move(line));
  }
  if (!accelerated) lines.emplace_back("no GPU: the CPU computes everything");
  for (const std::string& problem : backends.problems) lines.push_back("not loaded: " + problem);
  return lines;
}

nlohmann::ordered_json DevicesJson(const model::Backends& backends) {
  nlohmann::ordered_json devices = nlohmann::ordered_json::array();
  for (const model::Device& one : backends.devices) {
    devices.push_back({{"name", one.name},
                       {"description", one.description},
                       {"kind", one.kind},
                       {"memory_free", one.memory_free},
                       {"memory_total", one.memory_total}});
  }
  return {{"cpu", backends.cpu}, {"devices", devices}, {"problems", backends.problems}};
}

}  // namespace headrace::cli
