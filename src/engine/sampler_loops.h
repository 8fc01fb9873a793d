// The loops over a whole vocabulary. In a file of their own so that they alone are compiled for vectors, with
// sums in any order (CMakeLists.txt gives this file its flags).
#pragma once

#include <cstddef>

namespace headrace::engine::loops {

float Largest(const float* values, size_t count);
// Sum of e^((v − top) · scale); v ≤ top. Relative error below 1e-6; below e^-87 a term is 0.
float SumExp(const float* values, size_t count, float top, float scale);
// As SumExp, and keeps each term.
float StoreExp(const float* values, size_t count, float top, float scale, float* terms);

// out[i] = values[i] where bit i of `mask` is 1, -1e30 where it is 0 (infinities are not these loops'
// business); `count` is a multiple of 32.
void Masked(const float* values, size_t count, const int* mask, float* out);

}  // namespace headrace::engine::loops
