// loss: the cross-entropy of the next token, with the logits of a few rows at a time.
#pragma once

#include <cstdint>
#include <span>

#include "nn/matmul.h"

namespace headrace::nn {

// Rows of logits that are there at once: of a vocabulary of 262,144 in bfloat16, 134 MB.
inline constexpr int64_t kLossRows = 256;

// Each row of logits (rows, vocabulary) becomes the gradient of its loss, times `scale`: (softmax - one at
// the target) · scale. losses (rows) = -log softmax at the target, not scaled. Targets are from 0 to
// vocabulary - 1.
void CrossEntropy(const Matrix& logits, std::span<const int32_t> targets, float scale,
                  std::span<float> losses);

// The last layer's product and its loss together, forward and backward: logits are never there for more than
// kLossRows rows.
//   x (rows, width): hidden states of the rows that are learned from, after the last norm
//   forward (width, vocabulary) and backward (vocabulary, width): the head's weights and their transpose
//   dx (rows, width) is replaced by the gradient by x of the sum of losses · scale
//   losses (rows), as above
// The head's weights are frozen: they get no gradient.
void HeadLoss(Matmul* matmul, const Matrix& x, const Packed& forward, const Packed& backward,
              std::span<const int32_t> targets, float scale, const Matrix& dx, std::span<float> losses);

}  // namespace headrace::nn
