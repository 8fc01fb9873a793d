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

// What a block computes: Llama's (Touvron et al. 2023), with what Qwen2.5, Qwen3 and Gemma 3 add.
struct BlockShape {
  int64_t width = 0;
  int64_t heads = 0;
  int64_t key_heads = 0;
  int64_t head_size = 0;  // need not be width / heads
  int64_t hidden = 0;     // of the gated layer
  float epsilon = 1e-5F;
  RopePairs pairs = RopePairs::kAdjacent;
  Gate gate = Gate::kSilu;
  float score_scale = 0;  // of attention's scores; 0: 1 / sqrt(head_size)
  int64_t window = 0;     // a row sees itself and the window - 1 rows before it; 0: all before it

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

  // What not all models have; where empty, it is not there.
  std::vector<float> qkv_bias = {};             // (queries + 2 · keys), added to the product (Qwen2.5)
  std::vector<float> query_norm = {};           // (head_size), of each head before it is turned, and
  std::vector<float> key_norm = {};             // the same: both, or neither (Qwen3, Gemma 3)
  std::vector<float> attention_post_norm = {};  // (width), of what attention adds to x (Gemma 3)
  std::vector<float> gated_post_norm = {};      // (width), of what the gated layer adds to x (Gemma 3)
};

// Ranks of adapters; 0: the weight is left alone.
struct AdapterShape {
  int64_t rank = 0;
  float scale = 0;
  bool attention = true;  // q, k, v and output
  bool gated = true;      // gate, up and down
};

// What the forward pass of one block keeps for its backward pass. What only norms and positions come between
// is computed again; what is not needed has no columns.
struct Kept {
  Scratch x;              // (rows, width)
  Scratch qkv;            // before the norms of heads; where there are none, turned
  Scratch attention;      // (rows, queries)
  Scratch attention_out;  // (rows, width), before its post norm
  Scratch middle;         // (rows, width): x after attention, where no post norm makes it again
  Scratch gate_up;        // (rows, 2 · hidden)
  Scratch gated_out;      // (rows, width), before its post norm
  Scratch rank_qkv, rank_output, rank_gate_up, rank_down;
  std::vector<float> log_sums;           // (rows, heads)
  std::vector<float> gated_out_inverse;  // (rows), of the post norm
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
  struct Heads;
  Kept Keep(DType type, int64_t rows) const;
  AttentionShape Attending() const;
  Matrix Queries(const Matrix& qkv) const;
  Matrix Keys(const Matrix& qkv) const;
  Matrix Values(const Matrix& qkv) const;
  void TurnHeads(const Matrix& q, const Matrix& k, const Documents& documents, const RopeTable& rope,
                 Turn turn) const;
  Heads HeadsOf(const Matrix& qkv, const Documents& documents, const RopeTable& rope) const;
  void AttentionGradients(const Kept& kept, const Documents& documents, const RopeTable& rope,
                          const Matrix& dattention, const Matrix& dqkv) const;
  Scratch MiddleAgain(const Kept& kept, std::span<float> out_inverse) const;
  void GatedLayerBackward(const Kept& kept, const Matrix& middle, const Matrix& dx);
  void AttentionLayerBackward(const Kept& kept, std::span<const float> out_inverse,
                              const Documents& documents, const RopeTable& rope, bool first,
                              const Matrix& dx);

  Matmul* matmul_;
  BlockShape shape_;
  std::vector<float> attention_norm_, gated_norm_;
  std::vector<float> qkv_bias_, query_norm_, key_norm_, attention_post_norm_, gated_post_norm_;  // or empty
  Linear qkv_, output_, gate_up_, down_;
};

}  // namespace headrace::nn
