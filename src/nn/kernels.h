// kernels: what the row operations share: functions of a float that the compiler turns into vectors, and how
// work is shared out.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "nn/tensor.h"

// Compiled for several instruction sets; the one that the processor has is chosen when the program starts.
// (Sanitizers run before that choice is made, and go without.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define HEADRACE_KERNEL __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define HEADRACE_KERNEL
#endif

namespace headrace::nn {

// e^x within 2 units in the last place, and no branch: by powers of two and a polynomial of degree 6 (Cephes'
// expf). 0 below -87.3, e^88.3 above.
inline __attribute__((always_inline)) float Exp(float x) {
  const float inside = std::min(std::max(x, -87.3F), 88.3F);
  // 1.5 · 2^23: to add it rounds to an integer.
  const float shifted = inside * 1.44269504F + 12582912.0F;
  const float n = shifted - 12582912.0F;
  const float r = inside - n * 0.693359375F - n * -2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const int32_t power = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(12582912.0F);
  const float scale = std::bit_cast<float>((power + 127) << 23);
  return x < -87.3F ? 0.0F : p * scale;
}

inline __attribute__((always_inline)) float Sigmoid(float x) { return 1.0F / (1.0F + Exp(-x)); }

// Sums are made in this many lanes, whatever the processor's width is, and then in their order.
inline constexpr int64_t kLanes = 16;
inline __attribute__((always_inline)) float SumOf(const float (&lanes)[kLanes]) {
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace headrace::nn
