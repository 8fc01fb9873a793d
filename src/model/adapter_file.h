// adapter_file: LoRA adapters as GGUF files, as llama.cpp reads them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
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

// What the head of an adapter's file says, and its tensors as far as their shapes tell.
struct AdapterHead {
  AdapterFacts facts;  // its texts: all of the head
  std::string type;    // of its first tensor, by ggml's name: "f32"
  int64_t rank = 0;    // the highest of its pairs
  int64_t values = 0;  // of all pairs
  int64_t bytes = 0;   // of the file
  // The value of one of its texts; "" where there is none.
  std::string Text(std::string_view key) const;
};

// Whether a GGUF file says that it is an adapter (general.type). Not of a file that cannot be read.
bool IsAdapter(const std::string& path);

// Corrupt: not a GGUF file, or one that ends too early. Invalid: no LoRA adapter, or one that llama.cpp would
// not take: a weight of which one half is missing, halves that do not fit each other.
Result<AdapterHead> ReadAdapter(const std::string& path);

// As ReadAdapter; Invalid, too, where the adapter is for another architecture than the model of `base`, or
// for weights that are not there or of another shape. Reads the heads of both files alone.
Result<AdapterHead> CheckAdapter(const std::string& path, const std::string& base);

}  // namespace headrace::model
