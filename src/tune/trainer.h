// trainer: a model with the adapters that are trained on it, and its optimizer: what a step of the loop
// around it calls.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nn/decoder.h"
#include "nn/optimizer.h"
#include "tune/weights.h"

namespace headrace::tune {

struct TrainerOptions {
  std::string path;  // a GGUF file
  std::optional<nn::DType>
      type;             // of weights and activations; nothing: bfloat16 where that is fast, else float32
  int64_t context = 0;  // tokens of a document at most; 0: the model's
  nn::AdapterShape adapters;
  nn::AdamWOptions optimizer;
  uint64_t seed = 0;
  int threads = 0;  // 0: one for each processor that it may run on
};

// For one thread at a time, whichever.
class Trainer {
 public:
  // Corrupt, Unsupported: as OpenWeights. Invalid: a type that this processor has no products of, or a
  // context beyond the model's.
  static Result<std::unique_ptr<Trainer>> Open(const TrainerOptions& options);

  // As nn::Decoder's. Invalid: a batch with tokens or targets that the vocabulary has not, or a document
  // beyond the context.
  Result<nn::BatchLoss> Step(const nn::Batch& batch, float scale);
  Result<nn::BatchLoss> Evaluate(const nn::Batch& batch);
  // The gradient's norm before it was cut to `clip` (0: it is not); then a step of the optimizer with it.
  // A norm that is no number changes nothing: the gradient is cleared.
  double Update(double rate, double clip);
  void ClearGradients() { nn::ClearGradients(parameters_); }

  // Their values may be changed, and are used after Refresh.
  const std::vector<nn::Parameter*>& parameters() const { return parameters_; }
  void Refresh() { decoder_->Refresh(); }
  nn::AdamW& optimizer() { return optimizer_; }

  const nn::DecoderShape& shape() const { return weights_.shape; }
  nn::DType type() const { return type_; }
  int threads() const { return threads_; }

  // The adapters as a GGUF file for llama.cpp and `headrace serve`.
  Status WriteAdapter(const std::string& path, const std::string& name,
                      std::vector<std::pair<std::string, std::string>> texts) const;

 private:
  Trainer() = default;
  Status Check(const nn::Batch& batch) const;

  std::unique_ptr<nn::Matmul> matmul_;
  OpenedWeights weights_;
  nn::DType type_ = nn::DType::kF32;
  nn::AdapterShape adapters_;
  int threads_ = 1;
  std::unique_ptr<nn::Decoder> decoder_;
  std::vector<nn::Parameter*> parameters_;
  nn::AdamW optimizer_;
};

}  // namespace headrace::tune
