// weights: a decoder's shape and frozen weights from a GGUF file.
#pragma once

#include <memory>
#include <string>

#include "model/tensor_file.h"
#include "nn/decoder.h"

namespace headrace::tune {

struct OpenedWeights {
  nn::DecoderShape shape;
  std::shared_ptr<nn::WeightSource> source;
  std::string architecture;  // "llama"
};

// Unsupported, naming what it is: an architecture that the trainer does not compute, or a tensor or setting
// of the file that it would have to leave out (experts, scaled positions, …): never a model that is almost
// the one that serves. Corrupt: tensors that are missing or have another shape than the head says. `type`:
// that of activations; weights are turned into it layer by layer.
Result<OpenedWeights> OpenWeights(std::shared_ptr<const model::TensorFile> file, nn::DType type);

}  // namespace headrace::tune
