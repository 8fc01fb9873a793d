// decoder: a language model whose adapters are trained: loss and gradients of a batch.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/block.h"

namespace headrace::nn {

// What the rows of a layer see: all rows before them, or the last ones, with rotary positions of their own.
enum class LayerKind : uint8_t { kFull, kSliding };

struct DecoderShape {
  BlockShape block;  // of full layers; sliding ones have `window`
  int64_t layers = 0;
  int64_t vocabulary = 0;
  int64_t context = 0;  // positions that a document may have
  double rope_base = 10000;
  std::vector<float> rope_factors;  // (head_size / 2), or none
  float embedding_scale = 1;        // of the embedding's rows: Gemma's sqrt(width)

  std::vector<LayerKind> kinds = {};  // of each layer; empty: all are full
  int64_t window = 0;                 // of sliding layers: BlockShape::window
  double sliding_rope_base = 10000;   // of sliding layers, which have no factors
};

// Layers of which the last of every `period` is full, and the others slide. (Gemma 3: 6.)
std::vector<LayerKind> FullEvery(int64_t period, int64_t layers);

// Where the frozen weights come from. What is returned lives until the next call.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual Result<BlockWeights> BlockOf(int64_t layer) = 0;
  virtual Result<std::vector<float>> FinalNorm() = 0;  // (width)
  virtual Result<Matrix> Head() = 0;                   // (vocabulary, width)
  // Rows of the embedding as they are in files, not scaled: out (tokens, width).
  virtual void Embed(std::span<const int32_t> tokens, const Matrix& out) = 0;
};

// Documents of token ids, one after the other. Nothing is padded.
struct Batch {
  std::vector<int32_t> tokens;
  std::vector<int64_t> starts;   // of each document, and the number of tokens at the end
  std::vector<int32_t> targets;  // the token to come after each; kNoTarget where nothing is learned
};
inline constexpr int32_t kNoTarget = -1;

struct BatchLoss {
  double sum = 0;  // of -log probability, over the rows that have a target
  int64_t rows = 0;
};

class Decoder {
 public:
  // Invalid: weights that do not have the shape, or a shape that contradicts itself. `type`: of activations
  // and weights.
  static Result<std::unique_ptr<Decoder>> Create(Matmul* matmul, const DecoderShape& shape, DType type,
                                                 const AdapterShape& adapters, uint64_t seed,
                                                 std::shared_ptr<WeightSource> weights);

  // The loss of a batch. Adds the gradient of sum · scale to the parameters': a caller that accumulates
  // several batches, or has several machines, divides by the targets of all of them together.
  BatchLoss Step(const Batch& batch, float scale);
  // Without gradients.
  BatchLoss Evaluate(const Batch& batch);

  // Of all layers, in their order. Their values may be changed, and are used after Refresh.
  std::vector<Parameter*> parameters();
  void Refresh();

 private:
  Decoder(Matmul* matmul, DecoderShape shape, DType type, std::shared_ptr<WeightSource> weights);
  BatchLoss Run(const Batch& batch, float scale, bool learn);
  bool Slides(size_t layer) const;
  const RopeTable& RopeOf(size_t layer) const;

  Matmul* matmul_;
  DecoderShape shape_;
  DType type_;
  std::shared_ptr<WeightSource> weights_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<float> final_norm_;
  std::unique_ptr<Packed> head_, head_back_;
  std::vector<float> rope_values_, sliding_rope_values_;
  RopeTable rope_, sliding_rope_;
};

}  // namespace headrace::nn
