#include "model/adapter_stack.h"

#include <ggml-backend.h>
#include <gguf.h>
#include <llama.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

namespace headrace::model {
namespace {

constexpr int kMostRank = 512;  // beyond, products with mostly zeros cost more than taking turns

// An adapter's numbers as f32, by the name of the weight.
struct Factors {
  int64_t in = 0, out = 0, rank = 0;
  std::vector<float> a;  // [rank][in]
  std::vector<float> b;  // [out][rank], times the adapter's scale
};

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool ToFloats(const ggml_tensor* tensor, std::vector<float>* out) {
  const auto count = static_cast<size_t>(ggml_nelements(tensor));
  out->resize(count);
  if (tensor->type == GGML_TYPE_F32) {
    std::memcpy(out->data(), tensor->data, count * sizeof(float));
    return true;
  }
  const ggml_type_traits* traits = ggml_get_type_traits(tensor->type);
  if (traits->to_float == nullptr) return false;
  traits->to_float(tensor->data, out->data(), static_cast<int64_t>(count));
  return true;
}

// False where the file holds something that cannot be stacked.
bool ReadAdapter(const Model::Adapter& adapter, std::map<std::string, Factors>* factors) {
  ggml_context* memory = nullptr;
  gguf_context* file = gguf_init_from_file(adapter.path.c_str(), {.no_alloc = false, .ctx = &memory});
  if (file == nullptr) return false;
  const int64_t key = gguf_find_key(file, "adapter.lora.alpha");
  const float alpha = key >= 0 ? gguf_get_val_f32(file, key) : 0;
  bool good = gguf_find_key(file, "adapter.alora.invocation_tokens") < 0;
  for (ggml_tensor* tensor = ggml_get_first_tensor(memory); tensor != nullptr && good;
       tensor = ggml_get_next_tensor(memory, tensor)) {
    const std::string name = tensor->name;
    const bool a = EndsWith(name, ".lora_a"), b = EndsWith(name, ".lora_b");
    if (!a && !b) continue;
    const std::string weight = name.substr(0, name.size() - 7);
    good = weight.find("token_embd") == std::string::npos && weight.find("_exps") == std::string::npos &&
           ggml_n_dims(tensor) <= 2;
    if (!good) break;
    Factors& f = (*factors)[weight];
    (a ? f.in : f.rank) = tensor->ne[0];
    (a ? f.rank : f.out) = tensor->ne[1];
    good = ToFloats(tensor, a ? &f.a : &f.b);
  }
  for (auto& [weight, f] : *factors) {
    good = good && !f.a.empty() && !f.b.empty() && static_cast<int64_t>(f.a.size()) == f.in * f.rank &&
           static_cast<int64_t>(f.b.size()) == f.out * f.rank;
    const float scale = alpha != 0 ? adapter.scale * alpha / static_cast<float>(f.rank) : adapter.scale;
    for (float& x : f.b) x *= scale;
  }
  gguf_free(file);
  ggml_free(memory);
  return good;
}

}  // namespace

std::unique_ptr<AdapterStack> AdapterStack::Make(const Model& model,
                                                 std::span<const Model::Adapter> adapters) {
  if (adapters.empty()) return nullptr;
  std::unique_ptr<AdapterStack> stack(new AdapterStack());
  std::vector<std::map<std::string, Factors>> all;
  std::map<std::string, Factors> shapes;
  for (const Model::Adapter& adapter : adapters) {
    all.emplace_back();
    if (!ReadAdapter(adapter, &all.back()) || all.back().empty()) return nullptr;
    int64_t rank = 0;
    for (const auto& [weight, f] : all.back()) {
      rank = std::max(rank, f.rank);
      Factors& shape = shapes[weight];
      if (shape.in != 0 && (shape.in != f.in || shape.out != f.out)) return nullptr;
      shape.in = f.in;
      shape.out = f.out;
    }
    stack->parts_.push_back({stack->rank_, static_cast<int>(rank)});
    stack->rank_ += static_cast<int>(rank);
    if (stack->rank_ > kMostRank) return nullptr;
  }
  stack->rank_ = (stack->rank_ + 15) / 16 * 16;  // whole vectors
  const int64_t rank = stack->rank_;
  int64_t floats = 0;
  for (const auto& [weight, shape] : shapes) floats += (shape.in + shape.out) * rank;
  ggml_init_params params{};
  params.mem_size = static_cast<size_t>(floats) * sizeof(float) +
                    2 * shapes.size() * (ggml_tensor_overhead() + GGML_MEM_ALIGN) + 1024;
  ggml_context* memory = ggml_init(params);
  if (memory == nullptr) return nullptr;
  gguf_context* file = gguf_init_empty();
  gguf_set_val_str(file, "general.architecture", model.facts().architecture.c_str());
  gguf_set_val_str(file, "general.type", "adapter");
  gguf_set_val_str(file, "adapter.type", "lora");
  for (const auto& [weight, shape] : shapes) {
    ggml_tensor* a = ggml_new_tensor_2d(memory, GGML_TYPE_F32, shape.in, rank);
    ggml_tensor* b = ggml_new_tensor_2d(memory, GGML_TYPE_F32, rank, shape.out);
    ggml_set_name(a, (weight + ".lora_a").c_str());
    ggml_set_name(b, (weight + ".lora_b").c_str());
    auto* to_a = static_cast<float*>(a->data);
    auto* to_b = static_cast<float*>(b->data);
    std::fill_n(to_a, shape.in * rank, 0.0F);
    std::fill_n(to_b, shape.out * rank, 0.0F);
    for (size_t i = 0; i < all.size(); ++i) {
      const auto found = all[i].find(weight);
      if (found == all[i].end()) continue;
      const Factors& f = found->second;
      const int64_t first = stack->parts_[i].first;
      std::copy(f.a.begin(), f.a.end(), to_a + first * f.in);
      for (int64_t o = 0; o < f.out; ++o)
        std::copy_n(f.b.begin() + o * f.rank, f.rank, to_b + o * rank + first);
    }
    gguf_add_tensor(file, a);
    gguf_add_tensor(file, b);
  }
  // llama.cpp reads adapters from files: one that only this process has.
  if (const int fd = memfd_create("adapters", MFD_CLOEXEC); fd >= 0) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    if (gguf_write_to_file(file, path.c_str(), false)) {
      try {
        stack->handle_ = llama_adapter_lora_init(model.handle(), path.c_str());
      } catch (const std::exception&) {  // one adapter a step, then
      }
    }
    close(fd);
  }
  gguf_free(file);
  ggml_free(memory);
  if (stack->handle_ == nullptr) return nullptr;
  return stack;
}

AdapterStack::~AdapterStack() {
  if (handle_ != nullptr) llama_adapter_lora_free(handle_);
}

bool AdapterStack::Begin(std::span<const Row> rows) {
  rows_.clear();
  outputs_.clear();
  bool any = false, same = true;
  for (const Row& row : rows) {
    rows_.push_back(row.adapter);
    if (row.output) outputs_.push_back(row.adapter);
    any |= row.adapter >= 0;
    same &= row.adapter == rows.front().adapter;
  }
  mixed_ = !(parts_.size() == 1 && same && any);
  return any;
}

bool AdapterStack::StopsAt(const ggml_tensor* node) const {
  return mixed_ && node->op == GGML_OP_MUL_MAT && std::strstr(node->src[0]->name, ".lora_a") != nullptr;
}

bool AdapterStack::Mask(ggml_tensor* node) {
  const auto count = static_cast<size_t>(node->ne[1]);
  const std::vector<int>* rows = count == rows_.size()      ? &rows_
                                 : count == outputs_.size() ? &outputs_
                                                            : nullptr;
  if (rows == nullptr || node->type != GGML_TYPE_F32 || node->ne[0] != rank_ || ggml_n_dims(node) > 2)
    return false;
  const bool here = node->buffer == nullptr || ggml_backend_buffer_is_host(node->buffer);
  std::vector<float> zeros(here ? 0 : static_cast<size_t>(rank_), 0.0F);
  const auto clear = [&](size_t row, int from, int to) {
    const size_t at = row * node->nb[1] + static_cast<size_t>(from) * sizeof(float);
    const size_t bytes = static_cast<size_t>(to - from) * sizeof(float);
    if (bytes == 0) return;
    if (here) {
      std::memset(static_cast<char*>(node->data) + at, 0, bytes);
    } else {
      ggml_backend_tensor_set(node, zeros.data(), at, bytes);
    }
  };
  for (size_t row = 0; row < count; ++row) {
    const int adapter = (*rows)[row];
    const Part part = adapter < 0 ? Part{} : parts_[static_cast<size_t>(adapter)];
    clear(row, 0, part.first);
    clear(row, part.first + part.rank, rank_);
  }
  return true;
}

}  // namespace headrace::model
