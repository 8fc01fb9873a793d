#include "media/colour.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace headrace::media {
namespace {

constexpr int kBits = 16;
constexpr int64_t kOne = 1 << kBits;

int64_t Fixed(double value) { return std::llround(value * static_cast<double>(kOne)); }

uint8_t Clip(int64_t value) {
  return static_cast<uint8_t>(std::clamp<int64_t>((value + kOne / 2) >> kBits, 0, 255));
}

// BT.601 luma in 8 bits, as Pillow's convert("L").
int64_t Luma(const uint8_t* p) { return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16; }

template <typename Fn>
void EachPixel(Canvas* canvas, const Fn& fn) {
  for (int y = 0; y < canvas->height; ++y) {
    uint8_t* row = canvas->pixels.data() + y * canvas->stride;
    for (int x = 0; x < canvas->width; ++x) fn(row + x * 4);
  }
}

// Towards `grey` by 1 - factor.
void Blend(uint8_t* p, int64_t factor, int64_t grey) {
  for (int c = 0; c < 3; ++c) p[c] = Clip(p[c] * factor + grey * (kOne - factor));
}

uint16_t ToHalf(float value) {  // IEEE 754 binary16, round to nearest even
  uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const int32_t exponent = static_cast<int32_t>((bits >> 23) & 0xff) - 127 + 15;
  uint32_t mantissa = bits & 0x7fffff;
  if (((bits >> 23) & 0xff) == 0xff) return static_cast<uint16_t>(sign | 0x7c00 | (mantissa ? 0x200 : 0));
  if (exponent >= 31) return static_cast<uint16_t>(sign | 0x7c00);
  int shift = 13;
  uint32_t base = static_cast<uint32_t>(std::max(exponent, 0)) << 10;
  if (exponent <= 0) {
    if (exponent < -10) return static_cast<uint16_t>(sign);
    mantissa |= 0x800000;
    shift = 14 - exponent;
    base = 0;
  }
  uint32_t rounded = mantissa >> shift;
  const uint32_t rest = mantissa & ((1U << shift) - 1);
  const uint32_t half = 1U << (shift - 1);
  if (rest > half || (rest == half && (rounded & 1))) ++rounded;
  return static_cast<uint16_t>(sign | (base + rounded));
}

uint16_t ToBFloat(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

void RowToPlanesPortable(const uint8_t* in, int begin, int width, uint8_t* r, uint8_t* g, uint8_t* b) {
  for (int x = begin; x < width; ++x) {
    r[x] = in[x * 4];
    g[x] = in[x * 4 + 1];
    b[x] = in[x * 4 + 2];
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) int RowToPlanesAvx2(const uint8_t* in, int width, uint8_t* r, uint8_t* g,
                                                    uint8_t* b) {
  const __m128i gather = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  int x = 0;
  for (; x + 16 <= width; x += 16) {
    const auto* p = reinterpret_cast<const __m128i*>(in + x * 4);
    const __m128i a0 = _mm_shuffle_epi8(_mm_loadu_si128(p), gather);
    const __m128i a1 = _mm_shuffle_epi8(_mm_loadu_si128(p + 1), gather);
    const __m128i a2 = _mm_shuffle_epi8(_mm_loadu_si128(p + 2), gather);
    const __m128i a3 = _mm_shuffle_epi8(_mm_loadu_si128(p + 3), gather);
    const __m128i rg0 = _mm_unpacklo_epi32(a0, a1);
    const __m128i rg1 = _mm_unpacklo_epi32(a2, a3);
    const __m128i bx0 = _mm_unpackhi_epi32(a0, a1);
    const __m128i bx1 = _mm_unpackhi_epi32(a2, a3);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(r + x), _mm_unpacklo_epi64(rg0, rg1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(g + x), _mm_unpackhi_epi64(rg0, rg1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(b + x), _mm_unpacklo_epi64(bx0, bx1));
  }
  return x;
}
#endif

void RowToPlanes(const uint8_t* in, int width, uint8_t* r, uint8_t* g, uint8_t* b) {
  int done = 0;
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx2");
  if (has) done = RowToPlanesAvx2(in, width, r, g, b);
#endif
  RowToPlanesPortable(in, done, width, r, g, b);
}

}  // namespace

void ApplyJitter(const Jitter& jitter, Canvas* canvas) {
  if (jitter.brightness != 1) {
    const int64_t factor = Fixed(jitter.brightness);
    EachPixel(canvas, [&](uint8_t* p) { Blend(p, factor, 0); });
  }
  if (jitter.contrast != 1) {
    int64_t sum = 0;
    EachPixel(canvas, [&](const uint8_t* p) { sum += Luma(p); });
    const int64_t count = int64_t{canvas->width} * canvas->height;
    const int64_t mean = (sum + count / 2) / count;
    const int64_t factor = Fixed(jitter.contrast);
    EachPixel(canvas, [&](uint8_t* p) { Blend(p, factor, mean); });
  }
  if (jitter.saturation != 1) {
    const int64_t factor = Fixed(jitter.saturation);
    EachPixel(canvas, [&](uint8_t* p) { Blend(p, factor, Luma(p)); });
  }
  if (jitter.hue != 0) {
    // RGB -> YIQ, the IQ plane turned, and back: one matrix, whose rows sum to 1 so that greys stay.
    const double angle = jitter.hue * 2 * 3.14159265358979323846;
    const double c = std::cos(angle);
    const double s = std::sin(angle);
    const double to[3][3] = {{0.299, 0.587, 0.114}, {0.596, -0.274, -0.322}, {0.211, -0.523, 0.312}};
    const double back[3][3] = {{1, 0.956, 0.621}, {1, -0.272, -0.647}, {1, -1.106, 1.703}};
    int64_t matrix[3][3];
    for (int i = 0; i < 3; ++i) {
      int64_t sum = 0;
      for (int j = 0; j < 3; ++j) {
        const double turned_i = c * to[1][j] - s * to[2][j];
        const double turned_q = s * to[1][j] + c * to[2][j];
        matrix[i][j] = Fixed(back[i][0] * to[0][j] + back[i][1] * turned_i + back[i][2] * turned_q);
        sum += matrix[i][j];
      }
      matrix[i][i] += kOne - sum;
    }
    EachPixel(canvas, [&](uint8_t* p) {
      const int64_t r = p[0];
      const int64_t g = p[1];
      const int64_t b = p[2];
      for (int i = 0; i < 3; ++i) p[i] = Clip(matrix[i][0] * r + matrix[i][1] * g + matrix[i][2] * b);
    });
  }
}

int ElementBytes(Element element) {
  switch (element) {
    case Element::kUInt8:
      return 1;
    case Element::kFloat16:
    case Element::kBFloat16:
      return 2;
    case Element::kFloat32:
      return 4;
  }
  return 1;
}

ElementTable::ElementTable(Element element, const std::array<double, 3>& mean,
                           const std::array<double, 3>& deviation)
    : element_(element) {
  if (element == Element::kUInt8) return;
  for (size_t c = 0; c < 3; ++c) {
    for (int v = 0; v < 256; ++v) {
      const auto value = static_cast<float>((v / 255.0 - mean[c]) / deviation[c]);
      if (element == Element::kFloat32) {
        single_.push_back(value);
      } else {
        half_.push_back(element == Element::kFloat16 ? ToHalf(value) : ToBFloat(value));
      }
    }
  }
}

template <typename T>
void ElementTable::WriteAs(const std::vector<T>& table, const Canvas& canvas, bool planes, T* out) const {
  const int64_t plane = int64_t{canvas.width} * canvas.height;
  for (int y = 0; y < canvas.height; ++y) {
    const uint8_t* in = canvas.pixels.data() + y * canvas.stride;
    if (planes) {
      for (int c = 0; c < 3; ++c) {
        T* row = out + c * plane + int64_t{y} * canvas.width;
        const T* values = table.data() + static_cast<size_t>(c) * 256;
        for (int x = 0; x < canvas.width; ++x) row[x] = values[in[x * 4 + c]];
      }
    } else {
      T* row = out + int64_t{y} * canvas.width * 3;
      for (int x = 0; x < canvas.width; ++x) {
        for (int c = 0; c < 3; ++c) row[x * 3 + c] = table[static_cast<size_t>(c) * 256 + in[x * 4 + c]];
      }
    }
  }
}

void ElementTable::Write(const Canvas& canvas, bool planes, void* out) const {
  if (element_ == Element::kFloat32) return WriteAs(single_, canvas, planes, static_cast<float*>(out));
  if (element_ != Element::kUInt8) return WriteAs(half_, canvas, planes, static_cast<uint16_t*>(out));
  auto* bytes = static_cast<uint8_t*>(out);
  const int64_t plane = int64_t{canvas.width} * canvas.height;
  for (int y = 0; y < canvas.height; ++y) {
    const uint8_t* in = canvas.pixels.data() + y * canvas.stride;
    const int64_t at = int64_t{y} * canvas.width;
    if (planes) {
      RowToPlanes(in, canvas.width, bytes + at, bytes + plane + at, bytes + 2 * plane + at);
    } else {
      uint8_t* row = bytes + at * 3;
      for (int x = 0; x < canvas.width; ++x) {
        row[x * 3] = in[x * 4];
        row[x * 3 + 1] = in[x * 4 + 1];
        row[x * 3 + 2] = in[x * 4 + 2];
      }
    }
  }
}

}  // namespace headrace::media
