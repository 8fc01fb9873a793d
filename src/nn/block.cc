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

Block::Block(Matmul* matmul, const BlockShape& shape, const BlockWeights& weights,
             const AdapterShape& adapters, const std::string& name, std::mt19937_64* random)
    : matmul_(matmul),
      shape_(shape),
      attention_norm_(weights.attention_norm),
      gated_norm_(weights.gated_norm),
      qkv_bias_(weights.qkv_bias),
      query_norm_(weights.query_norm),
      key_norm_(weights.key_norm),
      attention_post_norm_(weights.attention_post_norm),
      gated_post_norm_(weights.gated_post_norm),
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

Kept Block::Keep(DType type, int64_t rows) const {
  const int64_t width = shape_.width;
  return {.x = Scratch(type, rows, width),
          .qkv = Scratch(type, rows, shape_.queries() + 2 * shape_.keys()),
          .attention = Scratch(type, rows, shape_.queries()),
          .attention_out = Scratch(type, rows, attention_post_norm_.empty() ? 0 : width),
          .middle = Scratch(type, rows, attention_post_norm_.empty() ? width : 0),
          .gate_up = Scratch(type, rows, 2 * shape_.hidden),
          .gated_out = Scratch(type, rows, gated_post_norm_.empty() ? 0 : width),
          .rank_qkv = Scratch(type, rows, qkv_.ranks()),
          .rank_output = Scratch(type, rows, output_.ranks()),
          .rank_gate_up = Scratch(type, rows, gate_up_.ranks()),
          .rank_down = Scratch(type, rows, down_.ranks()),
          .log_sums = std::vector<float>(static_cast<size_t>(rows * shape_.heads)),
          .gated_out_inverse = std::vector<float>(gated_post_norm_.empty() ? 0 : static_cast<size_t>(rows))};
}

AttentionShape Block::Attending() const {
  const float usual = 1.0F / std::sqrt(static_cast<float>(shape_.head_size));
  return {.heads = shape_.heads,
          .key_heads = shape_.key_heads,
          .head_size = shape_.head_size,
          .scale = shape_.score_scale == 0 ? usual : shape_.score_scale,
          .window = shape_.window};
}

Matrix Block::Queries(const Matrix& qkv) const { return Columns(qkv, 0, shape_.queries()); }
Matrix Block::Keys(const Matrix& qkv) const { return Columns(qkv, shape_.queries(), shape_.keys()); }
Matrix Block::Values(const Matrix& qkv) const {
  return Columns(qkv, shape_.queries() + shape_.keys(), shape_.keys());
}

void Block::TurnHeads(const Matrix& q, const Matrix& k, const Documents& documents, const RopeTable& rope,
                      Turn turn) const {
  Rope(q, documents.positions, rope, shape_.pairs, turn);
  Rope(k, documents.positions, rope, shape_.pairs, turn);
}

// Queries and keys as attention takes them.
struct Block::Heads {
  Scratch room;  // theirs, where heads have norms; else they lie in qkv
  Matrix q, k;
  std::vector<float> query_inverse, key_inverse;  // of those norms
};

// From what is kept: the same forward and backward.
Block::Heads Block::HeadsOf(const Matrix& qkv, const Documents& documents, const RopeTable& rope) const {
  if (query_norm_.empty()) return {Scratch(qkv.type, 0, 0), Queries(qkv), Keys(qkv), {}, {}};
  Heads heads = {Scratch(qkv.type, qkv.rows, shape_.queries() + shape_.keys()),
                 {},
                 {},
                 std::vector<float>(static_cast<size_t>(qkv.rows * shape_.heads)),
                 std::vector<float>(static_cast<size_t>(qkv.rows * shape_.key_heads))};
  heads.q = Queries(heads.room.matrix());
  heads.k = Keys(heads.room.matrix());
  RmsNorm(Queries(qkv), query_norm_, shape_.epsilon, heads.q, heads.query_inverse);
  RmsNorm(Keys(qkv), key_norm_, shape_.epsilon, heads.k, heads.key_inverse);
  TurnHeads(heads.q, heads.k, documents, rope, Turn::kForward);
  return heads;
}

Kept Block::Forward(const Matrix& x, const Documents& documents, const RopeTable& rope) {
  const int64_t rows = x.rows;
  Kept kept = Keep(x.type, rows);
  const Scratch normed(x.type, rows, shape_.width);
  std::vector<float> inverse(static_cast<size_t>(rows));
  const Matrix& qkv = kept.qkv.matrix();
  CopyRows(x, kept.x.matrix());
  RmsNorm(x, attention_norm_, shape_.epsilon, normed.matrix(), inverse);
  qkv_.Forward(normed.matrix(), qkv, kept.rank_qkv.matrix());
  if (!qkv_bias_.empty()) AddBias(qkv_bias_, qkv);
  if (query_norm_.empty()) TurnHeads(Queries(qkv), Keys(qkv), documents, rope, Turn::kForward);
  {
    const Heads heads = HeadsOf(qkv, documents, rope);
    Attention(matmul_, Attending(), documents.starts, heads.q, heads.k, Values(qkv), kept.attention.matrix(),
              kept.log_sums);
  }
  // What a branch adds: with a post norm, what goes into it is kept.
  const auto add = [&](const std::vector<float>& norm, const Scratch& out, std::span<float> out_inverse) {
    if (!norm.empty()) RmsNorm(out.matrix(), norm, shape_.epsilon, normed.matrix(), out_inverse);
    AddRows(normed.matrix(), x);
  };
  const Scratch& attention_out = attention_post_norm_.empty() ? normed : kept.attention_out;
  output_.Forward(kept.attention.matrix(), attention_out.matrix(), kept.rank_output.matrix());
  add(attention_post_norm_, attention_out, inverse);
  if (attention_post_norm_.empty()) CopyRows(x, kept.middle.matrix());

  const Matrix& gate_up = kept.gate_up.matrix();
  const Scratch gated(x.type, rows, shape_.hidden);
  RmsNorm(x, gated_norm_, shape_.epsilon, normed.matrix(), inverse);
  gate_up_.Forward(normed.matrix(), gate_up, kept.rank_gate_up.matrix());
  Gated(Columns(gate_up, 0, shape_.hidden), Columns(gate_up, shape_.hidden, shape_.hidden), shape_.gate,
        gated.matrix());
  const Scratch& gated_out = gated_post_norm_.empty() ? normed : kept.gated_out;
  down_.Forward(gated.matrix(), gated_out.matrix(), kept.rank_down.matrix());
  add(gated_post_norm_, gated_out, kept.gated_out_inverse);
  return kept;
}

// x after attention, in the bits of the forward pass; and the inverses of attention's post norm.
Scratch Block::MiddleAgain(const Kept& kept, std::span<float> out_inverse) const {
  const Matrix& x = kept.x.matrix();
  Scratch middle(x.type, x.rows, x.columns);
  RmsNorm(kept.attention_out.matrix(), attention_post_norm_, shape_.epsilon, middle.matrix(), out_inverse);
  AddRows(x, middle.matrix());
  return middle;
}

void Block::Backward(const Kept& kept, const Documents& documents, const RopeTable& rope, bool first,
                     const Matrix& dx) {
  std::vector<float> out_inverse;
  if (attention_post_norm_.empty()) {
    GatedLayerBackward(kept, kept.middle.matrix(), dx);
  } else {
    out_inverse.resize(static_cast<size_t>(dx.rows));
    GatedLayerBackward(kept, MiddleAgain(kept, out_inverse).matrix(), dx);
  }
  AttentionLayerBackward(kept, out_inverse, documents, rope, first, dx);
}

void Block::GatedLayerBackward(const Kept& kept, const Matrix& middle, const Matrix& dx) {
  const Scratch normed(dx.type, dx.rows, shape_.width);
  const Scratch back(dx.type, dx.rows, shape_.width);
  const Matrix gate = Columns(kept.gate_up.matrix(), 0, shape_.hidden);
  const Matrix up = Columns(kept.gate_up.matrix(), shape_.hidden, shape_.hidden);
  const bool post = !gated_post_norm_.empty();
  if (post)
    RmsNormBackward(dx, kept.gated_out.matrix(), gated_post_norm_, kept.gated_out_inverse, back.matrix(),
                    Into::kReplace, {});
  {
    const Scratch gated(dx.type, dx.rows, shape_.hidden);
    const Scratch dgated(dx.type, dx.rows, shape_.hidden);
    Gated(gate, up, shape_.gate, gated.matrix());
    down_.Backward(post ? back.matrix() : dx, gated.matrix(), kept.rank_down.matrix(), dgated.matrix());
    GatedBackward(dgated.matrix(), shape_.gate, gate, up);
  }
  std::vector<float> inverse(static_cast<size_t>(dx.rows));
  RmsNorm(middle, gated_norm_, shape_.epsilon, normed.matrix(), inverse);
  gate_up_.Backward(kept.gate_up.matrix(), normed.matrix(), kept.rank_gate_up.matrix(), back.matrix());
  RmsNormBackward(back.matrix(), middle, gated_norm_, inverse, dx, Into::kAdd, {});
}

void Block::AttentionLayerBackward(const Kept& kept, std::span<const float> out_inverse,
                                   const Documents& documents, const RopeTable& rope, bool first,
                                   const Matrix& dx) {
  const Scratch back(dx.type, dx.rows, shape_.width);
  const Scratch dqkv(dx.type, dx.rows, shape_.queries() + 2 * shape_.keys());
  const bool post = !attention_post_norm_.empty();
  if (post)
    RmsNormBackward(dx, kept.attention_out.matrix(), attention_post_norm_, out_inverse, back.matrix(),
                    Into::kReplace, {});
  {
    const Scratch dattention(dx.type, dx.rows, shape_.queries());
    output_.Backward(post ? back.matrix() : dx, kept.attention.matrix(), kept.rank_output.matrix(),
                     dattention.matrix());
    AttentionGradients(kept, documents, rope, dattention.matrix(), dqkv.matrix());
  }
  const Scratch normed(dx.type, dx.rows, shape_.width);
  std::vector<float> inverse(static_cast<size_t>(dx.rows));
  RmsNorm(kept.x.matrix(), attention_norm_, shape_.epsilon, normed.matrix(), inverse);
  qkv_.Backward(dqkv.matrix(), normed.matrix(), kept.rank_qkv.matrix(), first ? Matrix() : back.matrix());
  if (!first) RmsNormBackward(back.matrix(), kept.x.matrix(), attention_norm_, inverse, dx, Into::kAdd, {});
}

void Block::AttentionGradients(const Kept& kept, const Documents& documents, const RopeTable& rope,
                               const Matrix& dattention, const Matrix& dqkv) const {
  const Matrix& qkv = kept.qkv.matrix();
  const Matrix dq = Queries(dqkv);
  const Matrix dk = Keys(dqkv);
  const Heads heads = HeadsOf(qkv, documents, rope);
  AttentionBackward(matmul_, Attending(), documents.starts, heads.q, heads.k, Values(qkv),
                    kept.attention.matrix(), kept.log_sums, dattention, dq, dk, Values(dqkv));
  TurnHeads(dq, dk, documents, rope, Turn::kBack);
  if (query_norm_.empty()) return;
  RmsNormBackward(dq, Queries(qkv), query_norm_, heads.query_inverse, dq, Into::kReplace, {});
  RmsNormBackward(dk, Keys(qkv), key_norm_, heads.key_inverse, dk, Into::kReplace, {});
}

}  // namespace headrace::nn
