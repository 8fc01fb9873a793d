#include "tune/trainer.h"

#include <malloc.h>

#include <algorithm>
#include <cmath>

#include "model/adapter_file.h"
#include "nn/matmul.h"
#include "nn/threads.h"

namespace headrace::tune {

namespace {

// A step takes and frees the same some hundred megabytes; what the system gets back it gives again page by
// page, cleared. Of the process, which is the training's own.
void KeepFreedMemory() {
#ifdef __GLIBC__
  constexpr int kBytes = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kBytes);
  mallopt(M_TRIM_THRESHOLD, kBytes);
#endif
}

}  // namespace

Result<std::unique_ptr<Trainer>> Trainer::Open(const TrainerOptions& options) {
  KeepFreedMemory();
  std::unique_ptr<Trainer> trainer(new Trainer());
  trainer->threads_ = options.threads > 0 ? options.threads : nn::ThreadsInUse();
  nn::UseThreads(trainer->threads_);
  trainer->matmul_ = nn::OneDnnMatmul();
  const bool fast = trainer->matmul_->Fast(nn::DType::kBF16);
  trainer->type_ = options.type.value_or(fast ? nn::DType::kBF16 : nn::DType::kF32);
  if (!trainer->matmul_->Supports(trainer->type_))
    return Status::Invalid("this processor has no products of bf16 (they need AVX-512): take f32");
  HEADRACE_ASSIGN(auto file, model::TensorFile::Open(options.path));
  HEADRACE_ASSIGN(trainer->weights_, OpenWeights(std::move(file), trainer->type_));
  nn::DecoderShape& shape = trainer->weights_.shape;
  if (options.context > shape.context)
    return Status::Invalid(options.path + " was trained with " + std::to_string(shape.context) +
                           " tokens at most; " + std::to_string(options.context) + " were asked for");
  if (options.context > 0) shape.context = options.context;
  trainer->adapters_ = options.adapters;
  HEADRACE_ASSIGN(trainer->decoder_,
                  nn::Decoder::Create(trainer->matmul_.get(), shape, trainer->type_, options.adapters,
                                      options.seed, trainer->weights_.source));
  trainer->parameters_ = trainer->decoder_->parameters();
  trainer->optimizer_ = nn::AdamW(options.optimizer);
  nn::ClearGradients(trainer->parameters_);
  return trainer;
}

Status Trainer::Check(const nn::Batch& batch) const {
  const auto tokens = static_cast<int64_t>(batch.tokens.size());
  const auto vocabulary = static_cast<int32_t>(weights_.shape.vocabulary);
  if (batch.targets.size() != batch.tokens.size() || batch.starts.empty() || batch.starts.front() != 0 ||
      batch.starts.back() != tokens)
    return Status::Invalid("a batch's starts and targets do not go with its " + std::to_string(tokens) +
                           " tokens");
  for (size_t i = 0; i + 1 < batch.starts.size(); ++i) {
    const int64_t length = batch.starts[i + 1] - batch.starts[i];
    if (length < 0 || length > weights_.shape.context)
      return Status::Invalid("document " + std::to_string(i) + " of a batch has " + std::to_string(length) +
                             " tokens; the context holds " + std::to_string(weights_.shape.context));
  }
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    if (batch.tokens[i] < 0 || batch.tokens[i] >= vocabulary || batch.targets[i] < nn::kNoTarget ||
        batch.targets[i] >= vocabulary)
      return Status::Invalid("a batch has a token that the vocabulary of " + std::to_string(vocabulary) +
                             " has not");
  }
  return Status::Ok();
}

Result<nn::BatchLoss> Trainer::Step(const nn::Batch& batch, float scale) {
  HEADRACE_TRY(Check(batch));
  nn::UseThreads(threads_);
  return decoder_->Step(batch, scale);
}

Result<nn::BatchLoss> Trainer::Evaluate(const nn::Batch& batch) {
  HEADRACE_TRY(Check(batch));
  nn::UseThreads(threads_);
  return decoder_->Evaluate(batch);
}

double Trainer::Update(double rate, double clip) {
  nn::UseThreads(threads_);
  const double norm = nn::GradientNorm(parameters_);
  if (std::isfinite(norm)) {
    if (clip > 0 && norm > clip) nn::ScaleGradients(parameters_, static_cast<float>(clip / norm));
    optimizer_.Step(parameters_, rate);
    decoder_->Refresh();
  }
  nn::ClearGradients(parameters_);
  return norm;
}

Status Trainer::WriteAdapter(const std::string& path, const std::string& name,
                             std::vector<std::pair<std::string, std::string>> texts) const {
  std::vector<model::AdapterTensor> tensors;
  for (const nn::Parameter* parameter : parameters_) {
    // "blk.3.attn_q.lora_a": the weight's name comes before the last part.
    const size_t last = parameter->name.rfind('.');
    tensors.push_back({parameter->name.substr(0, last) + ".weight" + parameter->name.substr(last),
                       parameter->rows, parameter->columns, parameter->values.data()});
  }
  const float alpha = adapters_.scale * static_cast<float>(adapters_.rank);
  return model::WriteAdapter(path, {weights_.architecture, name, alpha, std::move(texts)}, tensors);
}

}  // namespace headrace::tune
