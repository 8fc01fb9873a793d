// Separable resampling of 8-bit pixels in fixed point: the same bits on every machine, whatever the width of
// its registers.
//
// The filters and their supports are Pillow's (Pillow, src/libImaging/Resample.c): a filter is stretched by
// the scale when shrinking, so that nothing aliases. Coefficients are rounded to 14 bits and sum to exactly
// 2^14, so a flat area stays flat; each pass rounds to 8 bits.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::media {

enum class Filter { kNearest, kBox, kBilinear, kBicubic, kLanczos };
// "nearest", "box", "bilinear", "bicubic", "lanczos".
Result<Filter> ParseFilter(std::string_view name);

inline constexpr int kTapBits = 14;

// How each of `size` outputs is made of inputs along one axis.
struct Taps {
  int size = 0;
  int count = 0;                      // coefficients of each output: an even number, zeros at the end
  int first = 0;                      // the lowest input used by any output
  int last = 0;                       // one past the highest
  std::vector<int32_t> start;         // (size): the first input of each output
  std::vector<int16_t> coefficients;  // (size, count)
  // (ceil(size / 2), count / 2, 16): for two outputs side by side, each pair of coefficients four times over,
  // as the registers of the horizontal pass want them.
  std::vector<int16_t> doubled;
};

// Outputs cover [from, to) of the input evenly; only inputs [begin, end) exist. 0 <= begin < end, size >= 1.
void MakeTaps(double from, double to, int begin, int end, int size, Filter filter, Taps* taps);

// A row of RGBX pixels (4 bytes each) to taps.size pixels. `in[0]` is input `origin`; 16 bytes behind the
// last input must be readable.
void ResampleRow(const Taps& taps, const uint8_t* in, int origin, uint8_t* out);
// Output row `index` of `bytes` bytes from rows of `stride` bytes; `rows` is input row `origin`. Reads and
// writes up to 31 bytes past `bytes`.
void ResampleColumn(const Taps& taps, int index, const uint8_t* rows, int64_t stride, int origin, int bytes,
                    uint8_t* out);

// False: only the portable loops are used (tests hold both against each other).
void AllowSimd(bool allow);

}  // namespace headrace::media
