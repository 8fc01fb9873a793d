// block: one layer of a decoder, forward and backward.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nn/attention.h"
#include "nn/linear.h"
#include "nn/rows.h"
#include "nn/scratch.h"

namespace headrace::nn {

// What all blocks of a model have in common. (Touvron et al. 2023, Llama.)
struct BlockShape {
  int64_t width = 0;
  int64_t heads = 0;
  int64_t key_heads = 0;
  int64_t head_size = 0;
  int64_t hidden = 0;  // of the gated layer
  float epsilon = 1e-5F;
  RopePairs pairs = RopePairs::kAdjacent;
  Gate gate = Gate::kSilu;

  int64_t queries() const { return heads * head_size; }
  int64_t keys() const { return key_heads * head_size; }
};

// A batch as blocks see it: documents one after the other, each from its own position 0.
struct Documents {
  std::span<const int64_t> starts;     // of each, and the number of rows at the end
  std::span<const int32_t> positions;  // (rows)
};

// The frozen weights of a block, as they lie in files: (outputs, inputs). All of one type, which is that of
// activations.
struct BlockWeights {
  std::vector<float> attention_norm;  // (width)
  Matrix qkv;                         // queries, keys and values, one below the other
  Matrix output;                      // (width, queries)
  std::vector<float> gated_norm;      // (width)
  Matrix gate_up;                     // gate, then up
  Matrix down;                        // (width, hidden)
};

// Ranks of adapters; 0: the weight is left alone.
struct AdapterShape {
  int64_t rank = 0;
  float scale = 0;
  bool attention = true;  // q, k, v and output
  bool gated = true;      // gate, up and down
};

// What the forward pass of one block keeps for its backward pass.
struct Kept {
  Kept(const BlockShape& shape, DType type, int64_t rows, const std::vector<int64_t>& ranks);
  Scratch x, qkv, attention, middle, gate_up;
  Scratch rank_qkv, rank_output, rank_gate_up, rank_down;
  std::vector<float> log_sums, attention_inverse, gated_inverse;
};

class Block {
 public:
  // `name` is put before the names of parameters: "blk.3.".
  Block(Matmul* matmul, const BlockShape& shape, const BlockWeights& weights, const AdapterShape& adapters,
        const std::string& name, std::mt19937_64* random);

  // x (rows, width) is replaced by the block's output.
  Kept Forward(const Matrix& x, const Documents& documents, const RopeTable& rope);
  // dx (rows, width): the gradient by the output is replaced by that by the input. Not by that of a model's
  // first block, whose input is frozen: with `first` there is no telling what dx is afterwards. Uses up
  // `kept`.
  void Backward(const Kept& kept, const Documents& documents, const RopeTable& rope, bool first,
                const Matrix& dx);

  // Calls `visit` with every Linear.
  template <typename F>
  void EachLinear(F&& visit) {
    for (Linear* linear : {&qkv_, &output_, &gate_up_, &down_}) visit(linear);
  }

 private:
  AttentionShape Attending() const;

  Matmul* matmul_;
  BlockShape shape_;
  std::vector<float> attention_norm_, gated_norm_;
  Linear qkv_, output_, gate_up_, down_;
};

}  // namespace headrace::nn
