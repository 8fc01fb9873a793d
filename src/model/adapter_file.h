// adapter_file: LoRA adapters as GGUF files, as llama.cpp reads them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace headrace::model {

// Row-major float32, not owned.
struct AdapterTensor {
  std::string name;  // "blk.3.attn_q.weight.lora_a" (rank, inputs), or .lora_b (outputs, rank)
  int64_t rows = 0;
  int64_t columns = 0;
  const float* values = nullptr;
};

struct AdapterFacts {
  std::string architecture;  // of the model that it is for: "llama"
  std::string name;
  float alpha = 0;  // the adapter's product is multiplied by alpha / rank
  // Further keys of the head, each with a text: "general.base_model.0.name", "general.license".
  std::vector<std::pair<std::string, std::string>> texts;
};

// A file is there whole, or not at all; another of that name is replaced.
Status WriteAdapter(const std::string& path, const AdapterFacts& facts,
                    const std::vector<AdapterTensor>& tensors);

}  // namespace headrace::model
