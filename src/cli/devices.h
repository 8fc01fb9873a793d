// What computes: the options that choose it, and the lines that tell it. In builds with the engine.
#pragma once

#include <CLI/CLI.hpp>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/backends.h"
#include "model/model.h"

namespace headrace::cli {

// --gpu-layers and --device.
std::vector<CLI::Option*> AddDeviceOptions(CLI::App* command, model::LoadOptions* options);

// A line for each device, then one for each backend that does not load.
std::vector<std::string> DeviceLines(const model::Backends& backends);
nlohmann::ordered_json DevicesJson(const model::Backends& backends);

}  // namespace headrace::cli
