// rows: operations on each row of a matrix by itself, forward and backward. Activations are float32 or
// bfloat16 (all of one call the same); what is computed within a row, and what is kept for the backward pass,
// is float32.
//
// Rows are shared out among OpenMP's threads; sums over rows are made in blocks of a fixed number of rows, in
// order: the bits do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <span>

#include "nn/tensor.h"

namespace headrace::nn {

// y = x · inverse · weight, with inverse = 1 / sqrt(mean(x²) + epsilon) of each group of weight.size()
// columns of each row: of a whole row, or of each of its heads. It is kept in `inverse` (rows · groups).
// (Zhang and Sennrich 2019, Root Mean Square Layer Normalization.) x and y: (rows, columns).
void RmsNorm(const Matrix& x, std::span<const float> weight, float epsilon, const Matrix& y,
             std::span<float> inverse);
// dx = or += the gradient by x, from that by y; a dx that is replaced may be dy itself. `weight_gradient` (as
// weight) += that by weight; empty where the weight is frozen.
void RmsNormBackward(const Matrix& dy, const Matrix& x, std::span<const float> weight,
                     std::span<const float> inverse, const Matrix& dx, Into into,
                     std::span<float> weight_gradient);

// How the halves of a pair lie in a head: Llama's GGUF files have them beside each other, the others half a
// head apart.
enum class RopePairs : uint8_t { kAdjacent, kHalves };

// Cosines and sines of rotary positions (Su et al. 2021, RoFormer): (positions, head_size / 2) each.
struct RopeTable {
  std::span<const float> cosines;
  std::span<const float> sines;
  int64_t head_size = 0;
};
// `table` holds 2 · positions · head_size / 2 floats: cosines, then sines. Angles are computed in float64.
// `factors` (head_size / 2), where there are any, divide the frequencies: Llama 3's, or one number for all
// (Chen et al. 2023, Position Interpolation: "linear" scaling).
RopeTable FillRope(int64_t positions, int64_t head_size, double base, std::span<const float> factors,
                   std::span<float> table);
// Turns every head of every row of x (rows, heads · head_size) in place by its row's position. Backward is
// the turn back.
enum class Turn : uint8_t { kForward, kBack };
void Rope(const Matrix& x, std::span<const int32_t> positions, const RopeTable& table, RopePairs pairs,
          Turn turn);

// silu: z / (1 + e^-z). gelu: its approximation by tanh, as Gemma has it.
enum class Gate : uint8_t { kSilu, kGelu };

// y = act(gate) · up, all (rows, columns).
void Gated(const Matrix& gate, const Matrix& up, Gate act, const Matrix& y);
// The gradients by gate and up take the places of gate and up.
void GatedBackward(const Matrix& dy, Gate act, const Matrix& gate, const Matrix& up);

// to += from.
void AddRows(const Matrix& from, const Matrix& to);
// Every row of `to` (rows, columns) += bias (columns).
void AddBias(std::span<const float> bias, const Matrix& to);
// x *= factor, which is rounded to x's type first: so does transformers with Gemma's embedding, where
// sqrt(3072) = 55.43 is 55.5 in bfloat16.
void Scale(float factor, const Matrix& x);

}  // namespace headrace::nn
