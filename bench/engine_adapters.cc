#include "engine_adapters.h"

#include <gguf.h>
#include <llama.h>
#include <unistd.h>

#include <cstdlib>
#include <random>

namespace headrace::bench {

std::string WriteAdapter(const std::string& model, const std::string& architecture, uint64_t seed, int rank) {
  ggml_context* shapes = nullptr;
  gguf_context* source = gguf_init_from_file(model.c_str(), {.no_alloc = true, .ctx = &shapes});
  if (source == nullptr) return "";
  std::vector<ggml_tensor*> wanted;
  size_t floats = 0;
  for (ggml_tensor* t = ggml_get_first_tensor(shapes); t != nullptr; t = ggml_get_next_tensor(shapes, t)) {
    const std::string name = t->name;
    for (const char* part :
         {"attn_q.", "attn_k.", "attn_v.", "attn_output.", "ffn_gate.", "ffn_up.", "ffn_down."})
      if (name.find(part) != std::string::npos) wanted.push_back(t);
  }
  for (const ggml_tensor* t : wanted) floats += static_cast<size_t>((t->ne[0] + t->ne[1]) * rank);
  ggml_init_params params{};
  params.mem_size = floats * sizeof(float) + 2 * wanted.size() * (ggml_tensor_overhead() + 64) + 1024;
  ggml_context* memory = ggml_init(params);
  gguf_context* file = gguf_init_empty();
  gguf_set_val_str(file, "general.architecture", architecture.c_str());
  gguf_set_val_str(file, "general.type", "adapter");
  gguf_set_val_str(file, "adapter.type", "lora");
  gguf_set_val_f32(file, "adapter.lora.alpha", static_cast<float>(rank));
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.01F);
  for (const ggml_tensor* t : wanted)
    for (const bool a : {true, false}) {
      ggml_tensor* factor =
          ggml_new_tensor_2d(memory, GGML_TYPE_F32, a ? t->ne[0] : rank, a ? rank : t->ne[1]);
      ggml_set_name(factor, (std::string(t->name) + (a ? ".lora_a" : ".lora_b")).c_str());
      for (int64_t i = 0; i < ggml_nelements(factor); ++i)
        static_cast<float*>(factor->data)[i] = normal(random);
      gguf_add_tensor(file, factor);
    }
  const char* folder = std::getenv("TMPDIR");
  const std::string path = std::string(folder != nullptr ? folder : "/tmp") + "/headrace-bench-adapter-" +
                           std::to_string(getpid()) + "-" + std::to_string(seed) + ".gguf";
  const bool written = gguf_write_to_file(file, path.c_str(), false);
  gguf_free(file);
  gguf_free(source);
  ggml_free(memory);
  ggml_free(shapes);
  return written ? path : "";
}

}  // namespace headrace::bench
