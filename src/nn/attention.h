// attention: causal attention within the documents of a packed batch, forward and backward.
#pragma once

#include <cstdint>
#include <span>

#include "nn/matmul.h"

namespace headrace::nn {

struct AttentionShape {
  int64_t heads = 0;
  int64_t key_heads = 0;  // heads / key_heads query heads share each (Ainslie et al. 2023, GQA)
  int64_t head_size = 0;
  float scale = 0;     // of the scores; usually 1 / sqrt(head_size)
  int64_t window = 0;  // a row sees itself and the window - 1 rows before it; 0: all before it
};

// Document i has the rows from starts[i] to starts[i + 1] - 1: no row sees another document, and nothing is
// padded. q and out: (rows, heads · head_size); k and v: (rows, key_heads · head_size), all of one type.
// log_sums (rows, heads): the logarithm of each softmax's denominator, for the backward pass.
void Attention(Matmul* matmul, const AttentionShape& shape, std::span<const int64_t> starts, const Matrix& q,
               const Matrix& k, const Matrix& v, const Matrix& out, std::span<float> log_sums);

// The scores are computed again from q and k (Dao et al. 2022, FlashAttention, section 3.1). dq, dk and dv
// are replaced. The bits do not depend on the number of threads.
void AttentionBackward(Matmul* matmul, const AttentionShape& shape, std::span<const int64_t> starts,
                       const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& out,
                       std::span<const float> log_sums, const Matrix& dout, const Matrix& dq,
                       const Matrix& dk, const Matrix& dv);

}  // namespace headrace::nn
