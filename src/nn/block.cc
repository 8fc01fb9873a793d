#include "nn/block.h"

#include <cmath>

namespace headrace::nn {
namespace {

Matrix Columns(const Matrix& matrix, int64_t first, int64_t count) {
  return matrix.Part(0, first, matrix.rows, count);
}

void CopyRows(const Matrix& from, const Matrix& to) {
  HEADRACE_CHECK(from.type == to.type && from.rows == to.rows && from.columns == to.columns);
  const size_t width = static_cast<size_t>(from.columns) * SizeOf(from.type);
  for (int64_t row = 0; row < from.rows; ++row)
    std::memcpy(to.Part(row, 0, 1, to.columns).data, from.Part(row, 0, 1, from.columns).data, width);
}

}  // namespace

Kept::Kept(const BlockShape& shape, DType type, int64_t rows, const std::vector<int64_t>& ranks)
    : x(type, rows, shape.width),
      qkv(type, rows, shape.queries() + 2 * shape.keys()),
      attention(type, rows, shape.queries()),
      middle(type, rows, shape.width),
      gate_up(type, rows, 2 * shape.hidden),
      rank_qkv(type, rows, ranks.at(0)),
      rank_output(type, rows, ranks.at(1)),
      rank_gate_up(type, rows, ranks.at(2)),
      rank_down(type, rows, ranks.at(3)),
      log_sums(static_cast<size_t>(rows * shape.heads)),
      attention_inverse(static_cast<size_t>(rows)),
      gated_inverse(static_cast<size_t>(rows)) {}

Block::Block(Matmul* matmul, const BlockShape& shape, const BlockWeights& weights,
             const AdapterShape& adapters, const std::string& name, std::mt19937_64* random)
    : matmul_(matmul),
      shape_(shape),
      attention_norm_(weights.attention_norm),
      gated_norm_(weights.gated_norm),
      qkv_(matmul, weights.qkv,
           {{"attn_q", shape.queries(), adapters.attention ? adapters.rank : 0, adapters.scale},
            {"attn_k", shape.keys(), adapters.attention ? adapters.rank : 0, adapters.scale},
            {"attn_v", shape.keys(), adapters.attention ? adapters.rank : 0, adapters.scale}},
           name, random),
      output_(matmul, weights.output,
              {{"attn_output", shape.width, adapters.attention ? adapters.rank : 0, adapters.scale}}, name,
              random),
      gate_up_(matmul, weights.gate_up,
               {{"ffn_gate", shape.hidden, adapters.gated ? adapters.rank : 0, adapters.scale},
                {"ffn_up", shape.hidden, adapters.gated ? adapters.rank : 0, adapters.scale}},
               name, random),
      down_(matmul, weights.down,
            {{"ffn_down", shape.width, adapters.gated ? adapters.rank : 0, adapters.scale}}, name, random) {}

AttentionShape Block::Attending() const {
  return {.heads = shape_.heads,
          .key_heads = shape_.key_heads,
          .head_size = shape_.head_size,
          .scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_size))};
}

Kept Block::Forward(const Matrix& x, const Documents& documents, const RopeTable& rope) {
  const int64_t rows = x.rows;
  Kept kept(shape_, x.type, rows, {qkv_.ranks(), output_.ranks(), gate_up_.ranks(), down_.ranks()});
  CopyRows(x, kept.x.matrix());
  const Scratch normed(x.type, rows, shape_.width);
  const Matrix& qkv = kept.qkv.matrix();
  const Matrix q = Columns(qkv, 0, shape_.queries());
  const Matrix k = Columns(qkv, shape_.queries(), shape_.keys());
  const Matrix v = Columns(qkv, shape_.queries() + shape_.keys(), shape_.keys());
  RmsNorm(x, attention_norm_, shape_.epsilon, normed.matrix(), kept.attention_inverse);
  qkv_.Forward(normed.matrix(), qkv, kept.rank_qkv.matrix());
  Rope(q, documents.positions, rope, shape_.pairs, Turn::kForward);
  Rope(k, documents.positions, rope, shape_.pairs, Turn::kForward);
  Attention(matmul_, Attending(), documents.starts, q, k, v, kept.attention.matrix(), kept.log_sums);
  output_.Forward(kept.attention.matrix(), normed.matrix(), kept.rank_output.matrix());
  AddRows(normed.matrix(), x);
  CopyRows(x, kept.middle.matrix());

  const Matrix& gate_up = kept.gate_up.matrix();
  const Scratch gated(x.type, rows, shape_.hidden);
  RmsNorm(x, gated_norm_, shape_.epsilon, normed.matrix(), kept.gated_inverse);
  gate_up_.Forward(normed.matrix(), gate_up, kept.rank_gate_up.matrix());
  Gated(Columns(gate_up, 0, shape_.hidden), Columns(gate_up, shape_.hidden, shape_.hidden), shape_.gate,
        gated.matrix());
  down_.Forward(gated.matrix(), normed.matrix(), kept.rank_down.matrix());
  AddRows(normed.matrix(), x);
  return kept;
}

void Block::Backward(const Kept& kept, const Documents& documents, const RopeTable& rope, bool first,
                     const Matrix& dx) {
  const int64_t rows = dx.rows;
  // Inverses are there: the norms' results are made again for the price of reading their inputs.
  const Scratch normed(dx.type, rows, shape_.width);
  const Scratch back(dx.type, rows, shape_.width);
  std::vector<float> inverse(static_cast<size_t>(rows));
  {
    const Matrix gate = Columns(kept.gate_up.matrix(), 0, shape_.hidden);
    const Matrix up = Columns(kept.gate_up.matrix(), shape_.hidden, shape_.hidden);
    const Scratch gated(dx.type, rows, shape_.hidden);
    const Scratch dgated(dx.type, rows, shape_.hidden);
    Gated(gate, up, shape_.gate, gated.matrix());
    down_.Backward(dx, gated.matrix(), kept.rank_down.matrix(), dgated.matrix());
    GatedBackward(dgated.matrix(), shape_.gate, gate, up);
  }
  RmsNorm(kept.middle.matrix(), gated_norm_, shape_.epsilon, normed.matrix(), inverse);
  gate_up_.Backward(kept.gate_up.matrix(), normed.matrix(), kept.rank_gate_up.matrix(), back.matrix());
  RmsNormBackward(back.matrix(), kept.middle.matrix(), gated_norm_, kept.gated_inverse, dx, {});

  const Scratch dattention(dx.type, rows, shape_.queries());
  const Scratch dqkv(dx.type, rows, shape_.queries() + 2 * shape_.keys());
  const auto part = [&](const Matrix& whole, int64_t which) {
    return which == 0 ? Columns(whole, 0, shape_.queries())
                      : Columns(whole, shape_.queries() + (which - 1) * shape_.keys(), shape_.keys());
  };
  output_.Backward(dx, kept.attention.matrix(), kept.rank_output.matrix(), dattention.matrix());
  const Matrix& qkv = kept.qkv.matrix();
  const Matrix& grads = dqkv.matrix();
  AttentionBackward(matmul_, Attending(), documents.starts, part(qkv, 0), part(qkv, 1), part(qkv, 2),
                    kept.attention.matrix(), kept.log_sums, dattention.matrix(), part(grads, 0),
                    part(grads, 1), part(grads, 2));
  Rope(part(grads, 0), documents.positions, rope, shape_.pairs, Turn::kBack);
  Rope(part(grads, 1), documents.positions, rope, shape_.pairs, Turn::kBack);
  RmsNorm(kept.x.matrix(), attention_norm_, shape_.epsilon, normed.matrix(), inverse);
  qkv_.Backward(grads, normed.matrix(), kept.rank_qkv.matrix(), first ? Matrix() : back.matrix());
  if (!first)
    RmsNormBackward(back.matrix(), kept.x.matrix(), attention_norm_, kept.attention_inverse, dx, {});
}

}  // namespace headrace::nn
