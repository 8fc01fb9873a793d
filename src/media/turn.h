// Pixels as they are stored, put as they are displayed: the one loop over EXIF orientations.
#pragma once

#include <cstdint>
#include <cstring>

#include "media/media.h"

namespace headrace::media {

template <typename Byte>
struct Pixels {
  Byte* data = nullptr;
  int64_t stride = 0;  // bytes from a row to the next
  int32_t width = 0, height = 0;
};

// `kBytes` to a pixel. `out` has the size of `in`, with the axes swapped where the orientation swaps them;
// it is mirrored afterwards if asked for. They do not overlap.
template <int kBytes>
void Turn(const Pixels<const uint8_t>& in, int orientation, bool mirror, const Pixels<uint8_t>& out) {
  const bool swaps = SwapsAxes(orientation);
  const bool flip_x = FlipsX(orientation);
  const bool flip_y = FlipsY(orientation);
  for (int32_t y = 0; y < out.height; ++y) {
    uint8_t* row = out.data + y * out.stride;
    for (int32_t x = 0; x < out.width; ++x) {
      const int32_t upright_x = mirror ? out.width - 1 - x : x;
      int32_t sx = swaps ? y : upright_x;
      int32_t sy = swaps ? upright_x : y;
      if (flip_x) sx = in.width - 1 - sx;
      if (flip_y) sy = in.height - 1 - sy;
      std::memcpy(row + int64_t{x} * kBytes, in.data + sy * in.stride + int64_t{sx} * kBytes, kBytes);
    }
  }
}

}  // namespace headrace::media
