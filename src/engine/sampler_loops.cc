#include "engine/sampler_loops.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace headrace::engine::loops {
namespace {

// e^x for -100 ≤ x ≤ 0: 2^k · p(r) with Cephes' polynomial (Moshier, 1992: expf.c).
__attribute__((always_inline)) inline float Exp(float x) {
  const float t = x * 1.44269504088896341F;
  const float k = std::floor(t + 0.5F);
  const float r = x - k * 0.693359375F + k * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const float scale = std::bit_cast<float>((static_cast<int32_t>(k) + 127) << 23);
  return x < -87.0F ? 0.0F : p * scale;
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define HEADRACE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HEADRACE_CLONES
#endif

}  // namespace

HEADRACE_CLONES float Largest(const float* values, size_t count) {
  float best = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < count; ++i) best = values[i] > best ? values[i] : best;
  return best;
}

HEADRACE_CLONES float SumExp(const float* values, size_t count, float top, float scale) {
  float sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const float x = (values[i] - top) * scale;
    sum += Exp(x < -100.0F ? -100.0F : x);
  }
  return sum;
}

HEADRACE_CLONES float StoreExp(const float* values, size_t count, float top, float scale, float* terms) {
  float sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const float x = (values[i] - top) * scale;
    const float term = Exp(x < -100.0F ? -100.0F : x);
    terms[i] = term;
    sum += term;
  }
  return sum;
}

HEADRACE_CLONES void Masked(const float* values, size_t count, const int* mask, float* out) {
  for (size_t at = 0; at < count; at += 32) {
    const int bits = mask[at / 32];
    for (int i = 0; i < 32; ++i)
      out[at + static_cast<size_t>(i)] =
          ((bits >> i) & 1) != 0 ? values[at + static_cast<size_t>(i)] : -1e30F;
  }
}

}  // namespace headrace::engine::loops
