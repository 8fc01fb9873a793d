#include "model/placement.h"

#include <fit.h>

#include <algorithm>
#include <mutex>

#include "model/backends.h"

namespace headrace::model {
namespace {

constexpr size_t kLeaveFree = size_t{1} << 30;  // bytes of a device that llama.cpp's own programs leave free

}  // namespace

Status Placement::Choose(const std::string& path, const LoadOptions& options, llama_model_params* params) {
  HEADRACE_ASSIGN(const Backends backends, LoadBackends());
  std::vector<std::string> names = options.devices;
  if (names.empty())
    for (const Device& one : backends.devices)
      if (one.kind != "cpu") names.push_back(one.name);
  if (names == std::vector<std::string>{"none"}) names.clear();
  std::string known = "none";
  for (const Device& one : backends.devices)
    if (one.kind != "cpu") known += ", " + one.name;
  for (const std::string& name : names) {
    const ggml_backend_dev_t device = ggml_backend_dev_by_name(name.c_str());
    if (device == nullptr || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU)
      return Status::Invalid("there is no device '" + name + "' for layers; there are: " + known);
    devices_.push_back(device);
  }
  accelerated_ = !devices_.empty() && options.gpu_layers != 0;
  devices_.push_back(nullptr);
  params->devices = devices_.data();
  params->n_gpu_layers = accelerated_ ? options.gpu_layers : 0;
  if (accelerated_ && options.gpu_layers < 0 && !options.vocabulary_only) Fit(path, params);
  accelerated_ = accelerated_ && params->n_gpu_layers != 0;
  return Status::Ok();
}

void Placement::Fit(const std::string& path, llama_model_params* params) {
  static std::mutex mutex;  // common_fit_params changes llama.cpp's log
  const std::lock_guard lock(mutex);
  split_.assign(llama_max_devices(), 0);
  overrides_.assign(llama_max_tensor_buft_overrides(), {nullptr, nullptr});
  std::vector<size_t> margins(llama_max_devices(), kLeaveFree);
  llama_context_params context = llama_context_default_params();
  context.n_ctx = static_cast<uint32_t>(kUsualCells);
  llama_model_params fitted = *params;
  try {
    if (common_fit_params(path.c_str(), &fitted, &context, split_.data(), overrides_.data(), margins.data(),
                          context.n_ctx, nullptr, GGML_LOG_LEVEL_NONE) == COMMON_PARAMS_FIT_STATUS_SUCCESS)
      *params = fitted;
  } catch (const std::exception&) {
    // A file that cannot be read is refused, with its reason, when it is loaded.
  }
}

}  // namespace headrace::model
