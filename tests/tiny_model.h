// Tiny models made at random, written as GGUF: a llama-like one with full attention and a gemma3-like one
// whose layers mostly see a short window. Small enough for thousands of prompts.
#pragma once

#include <ggml.h>
#include <gguf.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace headrace::testing {

struct TinyModel {
  bool windowed = false;     // gemma3-like
  std::string architecture;  // "qwen2" or "qwen3"; empty: "llama", or "gemma3" where it is windowed
  int window = 16;
  int layers = 2;  // gemma3: 6 make one layer of full attention
  int context = 2048;
  uint64_t seed = 1;
  std::string chat_template;
};

// Bytes, letters and a few words.
inline void WriteVocabulary(gguf_context* file, int vocabulary) {
  std::vector<std::string> words = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    words.emplace_back(name);
    types.push_back(6);
  }
  for (int i = 0; static_cast<int>(words.size()) < vocabulary; ++i) {
    words.push_back(i < 26    ? std::string(1, static_cast<char>('a' + i))
                    : i == 26 ? "\xE2\x96\x81"
                              : "ab" + std::string(1, static_cast<char>('a' + i - 27)));
    types.push_back(1);
  }
  std::vector<const char*> pointers;
  std::vector<float> scores;
  for (size_t i = 0; i < words.size(); ++i) {
    pointers.push_back(words[i].c_str());
    scores.push_back(-static_cast<float>(i));
  }
  gguf_set_val_str(file, "tokenizer.ggml.model", "llama");
  gguf_set_arr_str(file, "tokenizer.ggml.tokens", pointers.data(), pointers.size());
  gguf_set_arr_data(file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores.data(), scores.size());
  gguf_set_arr_data(file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types.data(), types.size());
  gguf_set_val_u32(file, "tokenizer.ggml.bos_token_id", 1);
  gguf_set_val_u32(file, "tokenizer.ggml.eos_token_id", 2);
}

inline void WriteTinyModel(const std::string& path, TinyModel shape) {
  const int width = 64, heads = 4, kv_heads = 2, inner = 128, vocabulary = 3 + 256 + 40;
  if (shape.windowed && shape.layers < 6) shape.layers = 6;
  ggml_init_params params{};
  params.mem_size = size_t{32} << 20;
  ggml_context* memory = ggml_init(params);
  gguf_context* file = gguf_init_empty();
  const std::string arch = !shape.architecture.empty() ? shape.architecture
                           : shape.windowed            ? "gemma3"
                                                       : "llama";
  const int head = arch == "qwen3" ? 24 : 16;  // which need not be width / heads
  const auto key = [&](const char* name) { return arch + "." + name; };
  gguf_set_val_str(file, "general.architecture", arch.c_str());
  gguf_set_val_str(file, "general.name", shape.windowed ? "tiny windowed" : "tiny");
  gguf_set_val_u32(file, key("context_length").c_str(), static_cast<uint32_t>(shape.context));
  gguf_set_val_u32(file, key("embedding_length").c_str(), width);
  gguf_set_val_u32(file, key("block_count").c_str(), static_cast<uint32_t>(shape.layers));
  gguf_set_val_u32(file, key("feed_forward_length").c_str(), inner);
  gguf_set_val_u32(file, key("attention.head_count").c_str(), heads);
  gguf_set_val_u32(file, key("attention.head_count_kv").c_str(), kv_heads);
  gguf_set_val_u32(file, key("attention.key_length").c_str(), head);
  gguf_set_val_u32(file, key("attention.value_length").c_str(), head);
  gguf_set_val_f32(file, key("attention.layer_norm_rms_epsilon").c_str(), 1e-5F);
  gguf_set_val_u32(file, key("rope.dimension_count").c_str(), head);
  if (shape.windowed)
    gguf_set_val_u32(file, key("attention.sliding_window").c_str(), static_cast<uint32_t>(shape.window));
  if (!shape.architecture.empty()) gguf_set_val_f32(file, key("rope.freq_base").c_str(), 1e6F);
  WriteVocabulary(file, vocabulary);
  if (!shape.chat_template.empty())
    gguf_set_val_str(file, "tokenizer.chat_template", shape.chat_template.c_str());

  std::mt19937_64 random(shape.seed);
  const auto add = [&](const std::string& name, int64_t columns, int64_t rows, float scale, float offset) {
    ggml_tensor* tensor = rows > 0 ? ggml_new_tensor_2d(memory, GGML_TYPE_F32, columns, rows)
                                   : ggml_new_tensor_1d(memory, GGML_TYPE_F32, columns);
    ggml_set_name(tensor, name.c_str());
    std::normal_distribution<float> normal(offset, scale);
    for (int64_t i = 0; i < ggml_nelements(tensor); ++i)
      static_cast<float*>(tensor->data)[i] = normal(random);
    gguf_add_tensor(file, tensor);
  };
  const float narrow = 0.15F;
  add("token_embd.weight", width, vocabulary, 0.6F, 0);
  add("output_norm.weight", width, 0, 0.1F, 1);
  if (!shape.windowed) add("output.weight", width, vocabulary, 0.4F, 0);
  for (int layer = 0; layer < shape.layers; ++layer) {
    const std::string block = "blk." + std::to_string(layer) + ".";
    add(block + "attn_norm.weight", width, 0, 0.1F, 1);
    add(block + "attn_q.weight", width, heads * head, narrow, 0);
    add(block + "attn_k.weight", width, kv_heads * head, narrow, 0);
    add(block + "attn_v.weight", width, kv_heads * head, narrow, 0);
    add(block + "attn_output.weight", heads * head, width, narrow, 0);
    add(block + "ffn_norm.weight", width, 0, 0.1F, 1);
    add(block + "ffn_gate.weight", width, inner, narrow, 0);
    add(block + "ffn_up.weight", width, inner, narrow, 0);
    add(block + "ffn_down.weight", inner, width, narrow, 0);
    if (arch == "qwen2") {
      add(block + "attn_q.bias", heads * head, 0, 0.5F, 0);
      add(block + "attn_k.bias", kv_heads * head, 0, 0.5F, 0);
      add(block + "attn_v.bias", kv_heads * head, 0, 0.5F, 0);
    }
    if (arch == "qwen3") {
      add(block + "attn_q_norm.weight", head, 0, 0.1F, 1);
      add(block + "attn_k_norm.weight", head, 0, 0.1F, 1);
    }
    if (shape.windowed) {
      add(block + "attn_q_norm.weight", head, 0, 0.1F, 1);
      add(block + "attn_k_norm.weight", head, 0, 0.1F, 1);
      add(block + "post_attention_norm.weight", width, 0, 0.1F, 1);
      add(block + "post_ffw_norm.weight", width, 0, 0.1F, 1);
    }
  }
  gguf_write_to_file(file, path.c_str(), false);
  gguf_free(file);
  ggml_free(memory);
}

// A LoRA adapter for such a model, at random: it changes every answer.
inline void WriteTinyAdapter(const std::string& path, uint64_t seed, float scale = 0.3F, int rank = 4) {
  ggml_init_params params{};
  params.mem_size = size_t{8} << 20;
  ggml_context* memory = ggml_init(params);
  gguf_context* file = gguf_init_empty();
  gguf_set_val_str(file, "general.architecture", "llama");
  gguf_set_val_str(file, "general.type", "adapter");
  gguf_set_val_str(file, "adapter.type", "lora");
  gguf_set_val_f32(file, "adapter.lora.alpha", 4.0F);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  for (const char* name : {"blk.0.attn_q.weight", "blk.1.ffn_up.weight"}) {
    const int out = std::strstr(name, "ffn") != nullptr ? 128 : 64;
    for (const bool a : {true, false}) {
      ggml_tensor* tensor = a ? ggml_new_tensor_2d(memory, GGML_TYPE_F32, 64, rank)
                              : ggml_new_tensor_2d(memory, GGML_TYPE_F32, rank, out);
      ggml_set_name(tensor, (std::string(name) + (a ? ".lora_a" : ".lora_b")).c_str());
      for (int64_t i = 0; i < ggml_nelements(tensor); ++i)
        static_cast<float*>(tensor->data)[i] = normal(random);
      gguf_add_tensor(file, tensor);
    }
  }
  gguf_write_to_file(file, path.c_str(), false);
  gguf_free(file);
  ggml_free(memory);
}

// The small real model that ./dev setup fetches, "" where it is not there.
inline std::string RealModel(const char* name) {
  const char* cache = getenv("HEADRACE_CACHE");
  const char* home = getenv("HOME");
  const std::string path =
      (cache != nullptr ? std::string(cache)
                        : std::string(home != nullptr ? home : "") + "/.cache/headrace") +
      "/models/" + name;
  FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return "";
  std::fclose(file);
  return path;
}

}  // namespace headrace::testing
