#include "media/resample.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace headrace::media {
namespace {

constexpr double kPi = 3.14159265358979323846;

double Support(Filter filter) {
  switch (filter) {
    case Filter::kNearest:
      return 0;
    case Filter::kBox:
      return 0.5;
    case Filter::kBilinear:
      return 1;
    case Filter::kBicubic:
      return 2;
    case Filter::kLanczos:
      return 3;
  }
  return 1;
}

double Sinc(double x) { return x == 0 ? 1 : std::sin(kPi * x) / (kPi * x); }

double Weight(Filter filter, double x) {
  const double a = std::fabs(x);
  switch (filter) {
    case Filter::kNearest:
    case Filter::kBox:
      return x > -0.5 && x <= 0.5 ? 1 : 0;
    case Filter::kBilinear:
      return a < 1 ? 1 - a : 0;
    case Filter::kBicubic: {  // Keys, a = -0.5
      constexpr double k = -0.5;
      if (a < 1) return ((k + 2) * a - (k + 3)) * a * a + 1;
      return a < 2 ? (((a - 5) * a + 8) * a - 4) * k : 0;
    }
    case Filter::kLanczos:
      return a < 3 ? Sinc(x) * Sinc(x / 3) : 0;
  }
  return 0;
}

// Rounds weights to 2^14 in sum; what rounding loses goes to the largest.
void Quantize(const std::vector<double>& weights, int16_t* out) {
  double total = 0;
  for (const double w : weights) total += w;
  int sum = 0;
  size_t largest = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    out[i] = static_cast<int16_t>(std::lround(weights[i] / total * (1 << kTapBits)));
    sum += out[i];
    if (out[i] > out[largest]) largest = i;
  }
  out[largest] = static_cast<int16_t>(out[largest] + (1 << kTapBits) - sum);
}

uint8_t Clip(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kTapBits, 0, 255)); }

constexpr int32_t kHalf = 1 << (kTapBits - 1);

void RowPortable(const Taps& taps, const uint8_t* in, int origin, uint8_t* out) {
  for (int i = 0; i < taps.size; ++i) {
    const uint8_t* pixel = in + static_cast<int64_t>(taps.start[static_cast<size_t>(i)] - origin) * 4;
    const int16_t* c = taps.coefficients.data() + static_cast<int64_t>(i) * taps.count;
    int32_t sum[4] = {kHalf, kHalf, kHalf, kHalf};
    for (int k = 0; k < taps.count; ++k) {
      if (c[k] == 0) continue;
      for (int channel = 0; channel < 4; ++channel) sum[channel] += c[k] * pixel[k * 4 + channel];
    }
    for (int channel = 0; channel < 4; ++channel) out[i * 4 + channel] = Clip(sum[channel]);
  }
}

void ColumnPortable(const int16_t* c, int count, const uint8_t* rows, int64_t stride, int bytes,
                    uint8_t* out) {
  for (int x = 0; x < bytes; ++x) {
    int32_t sum = kHalf;
    for (int k = 0; k < count; ++k) {
      if (c[k] != 0) sum += c[k] * rows[k * stride + x];
    }
    out[x] = Clip(sum);
  }
}

#if defined(__x86_64__)
// Two outputs at once, one in each half of the register. The channels of two neighbouring inputs are laid
// side by side, so that one multiply-add sums two taps of a channel.
__attribute__((target("avx2"))) inline __m256i LoadTwo(const uint8_t* a, const uint8_t* b) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a))),
                                 _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)), 1);
}

__attribute__((target("avx2"))) void RowAvx2(const Taps& taps, const uint8_t* in, int origin, uint8_t* out) {
  const __m256i first = _mm256_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,  //
                                         0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
  const __m256i second = _mm256_setr_epi8(8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1,  //
                                          8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1);
  const auto* weights = reinterpret_cast<const __m256i*>(taps.doubled.data());
  const int pairs = taps.count / 2;
  for (int i = 0; i < taps.size; i += 2, weights += pairs) {
    const int next = i + 1 < taps.size ? i + 1 : i;
    const uint8_t* a = in + static_cast<int64_t>(taps.start[static_cast<size_t>(i)] - origin) * 4;
    const uint8_t* b = in + static_cast<int64_t>(taps.start[static_cast<size_t>(next)] - origin) * 4;
    __m256i sum = _mm256_set1_epi32(kHalf);
    int k = 0;
    for (; k + 2 <= pairs; k += 2) {
      const __m256i four = LoadTwo(a + static_cast<ptrdiff_t>(k) * 8, b + static_cast<ptrdiff_t>(k) * 8);
      sum = _mm256_add_epi32(
          sum, _mm256_madd_epi16(_mm256_shuffle_epi8(four, first), _mm256_loadu_si256(weights + k)));
      sum = _mm256_add_epi32(
          sum, _mm256_madd_epi16(_mm256_shuffle_epi8(four, second), _mm256_loadu_si256(weights + k + 1)));
    }
    if (k < pairs) {
      const __m256i two = LoadTwo(a + static_cast<ptrdiff_t>(k) * 8, b + static_cast<ptrdiff_t>(k) * 8);
      sum = _mm256_add_epi32(
          sum, _mm256_madd_epi16(_mm256_shuffle_epi8(two, first), _mm256_loadu_si256(weights + k)));
    }
    sum = _mm256_srai_epi32(sum, kTapBits);
    sum = _mm256_packus_epi16(_mm256_packs_epi32(sum, sum), sum);
    const int32_t low = _mm_cvtsi128_si32(_mm256_castsi256_si128(sum));
    std::memcpy(out + static_cast<int64_t>(i) * 4, &low, 4);
    if (next == i) break;
    const int32_t high = _mm_cvtsi128_si32(_mm256_extracti128_si256(sum, 1));
    std::memcpy(out + static_cast<int64_t>(next) * 4, &high, 4);
  }
}

__attribute__((target("avx2"))) void ColumnAvx2(const int16_t* c, int count, const uint8_t* rows,
                                                int64_t stride, int bytes, uint8_t* out) {
  const __m256i zero = _mm256_setzero_si256();
  for (int x = 0; x < bytes; x += 32) {
    __m256i sum[4];
    for (auto& part : sum) part = _mm256_set1_epi32(kHalf);
    for (int k = 0; k < count; k += 2) {
      int32_t both = 0;
      std::memcpy(&both, c + k, 4);
      if (both == 0) continue;  // padding: its rows may not be there
      const __m256i weights = _mm256_set1_epi32(both);
      const auto* row = rows + k * stride + x;
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
      const __m256i b =
          c[k + 1] != 0 ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + stride)) : zero;
      const __m256i low = _mm256_unpacklo_epi8(a, b);
      const __m256i high = _mm256_unpackhi_epi8(a, b);
      // Bytes a0 b0 a1 b1 … widen to 16 bits in pairs (a, b).
      sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), weights));
      sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), weights));
      sum[2] = _mm256_add_epi32(sum[2], _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), weights));
      sum[3] = _mm256_add_epi32(sum[3], _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), weights));
    }
    for (auto& part : sum) part = _mm256_srai_epi32(part, kTapBits);
    const __m256i packed =
        _mm256_packus_epi16(_mm256_packs_epi32(sum[0], sum[1]), _mm256_packs_epi32(sum[2], sum[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), packed);
  }
}
#endif

std::atomic<bool> simd_allowed{true};

bool UseAvx2() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx2");
  return has && simd_allowed.load(std::memory_order_relaxed);
#else
  return false;
#endif
}

}  // namespace

void AllowSimd(bool allow) { simd_allowed.store(allow); }

Result<Filter> ParseFilter(std::string_view name) {
  if (name == "nearest") return Filter::kNearest;
  if (name == "box") return Filter::kBox;
  if (name == "bilinear") return Filter::kBilinear;
  if (name == "bicubic") return Filter::kBicubic;
  if (name == "lanczos") return Filter::kLanczos;
  return Status::Invalid("there is no filter '" + std::string(name) +
                         "'; there are nearest, box, bilinear, bicubic, lanczos");
}

void MakeTaps(double from, double to, int begin, int end, int size, Filter filter, Taps* taps) {
  HEADRACE_CHECK(begin >= 0 && begin < end && size >= 1 && from < to);
  const double scale = (to - from) / size;
  const double stretch = std::max(scale, 1.0);
  const double support = Support(filter) * stretch;
  taps->size = size;
  const int most = filter == Filter::kNearest ? 1 : static_cast<int>(std::ceil(support)) * 2 + 1;
  taps->count = (std::min(most, end - begin) + 1) / 2 * 2;
  taps->start.resize(static_cast<size_t>(size));
  taps->coefficients.assign(static_cast<size_t>(size) * static_cast<size_t>(taps->count), 0);
  taps->first = end;
  taps->last = begin;
  std::vector<double> weights;
  for (int i = 0; i < size; ++i) {
    const double centre = from + (i + 0.5) * scale;
    int low = 0;
    int high = 0;
    if (filter == Filter::kNearest) {
      low = std::clamp(static_cast<int>(std::floor(centre)), begin, end - 1);
      high = low + 1;
    } else {
      low = std::clamp(static_cast<int>(std::floor(centre - support + 0.5)), begin, end - 1);
      high = std::clamp(static_cast<int>(std::floor(centre + support + 0.5)), low + 1, end);
      high = std::min(high, low + taps->count);
    }
    weights.clear();
    double total = 0;
    for (int x = low; x < high; ++x) {
      weights.push_back(filter == Filter::kNearest ? 1 : Weight(filter, (x - centre + 0.5) / stretch));
      total += weights.back();
    }
    if (total <= 0) {  // the box lies at the rim of what exists: the nearest input
      weights.assign(1, 1);
      low = std::clamp(static_cast<int>(std::floor(centre)), begin, end - 1);
      high = low + 1;
    }
    // All outputs have `count` coefficients: near the end, zeros stand in front, so that nothing beyond is
    // read.
    const int shift = std::clamp(low + taps->count - end, 0, low - begin);
    Quantize(weights, taps->coefficients.data() + static_cast<int64_t>(i) * taps->count + shift);
    taps->start[static_cast<size_t>(i)] = low - shift;
    taps->first = std::min(taps->first, low - shift);
    taps->last = std::max(taps->last, high);
  }
  const int pairs = taps->count / 2;
  taps->doubled.assign(static_cast<size_t>((size + 1) / 2) * static_cast<size_t>(pairs) * 16, 0);
  for (int i = 0; i < size; ++i) {
    const int16_t* c = taps->coefficients.data() + static_cast<int64_t>(i) * taps->count;
    int16_t* out = taps->doubled.data() + static_cast<int64_t>(i / 2) * pairs * 16 + i % 2 * 8;
    for (int k = 0; k < pairs; ++k, out += 16) {
      int32_t pair = 0;
      std::memcpy(&pair, c + k * 2, 4);
      const int32_t four[4] = {pair, pair, pair, pair};
      std::memcpy(out, four, 16);
    }
  }
}

void ResampleRow(const Taps& taps, const uint8_t* in, int origin, uint8_t* out) {
#if defined(__x86_64__)
  if (UseAvx2()) return RowAvx2(taps, in, origin, out);
#endif
  RowPortable(taps, in, origin, out);
}

void ResampleColumn(const Taps& taps, int index, const uint8_t* rows, int64_t stride, int origin, int bytes,
                    uint8_t* out) {
  const int16_t* c = taps.coefficients.data() + static_cast<int64_t>(index) * taps.count;
  const uint8_t* first = rows + (taps.start[static_cast<size_t>(index)] - origin) * stride;
#if defined(__x86_64__)
  if (UseAvx2()) return ColumnAvx2(c, taps.count, first, stride, bytes, out);
#endif
  ColumnPortable(c, taps.count, first, stride, bytes, out);
}

}  // namespace headrace::media
