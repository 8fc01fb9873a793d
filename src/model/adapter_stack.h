// AdapterStack: all LoRA adapters of a model as one whose rank is theirs together, so that rows of different
// adapters share a step. An adapter adds B·A·x to W·x; here A and B hold every adapter's, side by side, and
// between the two products each row's numbers of other adapters are set to zero (the batching of Punica, Chen
// et al. 2023, arXiv:2310.18547, with ggml's own products instead of gathered ones). llama.cpp knows of one
// adapter set for a whole step; the zeros are put in from its evaluation callback.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/model.h"

struct ggml_tensor;
struct llama_adapter_lora;

namespace headrace::model {

class AdapterStack {
 public:
  // Of these adapters of the model; make it before the context. Null where they cannot be stacked (none, too
  // many, adapted embeddings or experts): the context then runs one adapter a step.
  static std::unique_ptr<AdapterStack> Make(const Model& model, std::span<const Model::Adapter> adapters);
  ~AdapterStack();
  AdapterStack(const AdapterStack&) = delete;
  AdapterStack& operator=(const AdapterStack&) = delete;

  llama_adapter_lora* handle() const { return handle_; }
  // Says which rows the next step has; true where any of them has an adapter.
  bool Begin(std::span<const Row> rows);
  // The evaluation callback: whether this node must be stopped at, and what is done there. False: its shape
  // is not what was expected, and the step must not count.
  bool StopsAt(const ggml_tensor* node) const;
  bool Mask(ggml_tensor* node);

 private:
  struct Part {
    int first = 0, rank = 0;
  };
  AdapterStack() = default;

  llama_adapter_lora* handle_ = nullptr;
  std::vector<Part> parts_;  // by adapter
  int rank_ = 0;
  std::vector<int> rows_, outputs_;  // adapters of the step's rows
  bool mixed_ = false;               // false: all rows have the only adapter
};

}  // namespace headrace::model
