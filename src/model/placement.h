// Where a model's layers are computed. Seen by the .cc files of this folder only.
#pragma once

#include <ggml-backend.h>
#include <llama.h>

#include <string>
#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace headrace::model {

// What llama_model_params points to, for a choice of devices and layers: kept until the model is loaded.
class Placement {
 public:
  // Errors name devices that are not there.
  Status Choose(const std::string& path, const LoadOptions& options, llama_model_params* params);
  // Some layers are on an accelerator.
  bool accelerated() const { return accelerated_; }

 private:
  void Fit(const std::string& path, llama_model_params* params);

  std::vector<ggml_backend_dev_t> devices_;
  std::vector<float> split_;
  std::vector<llama_model_tensor_buft_override> overrides_;
  bool accelerated_ = false;
};

}  // namespace headrace::model
