// media: image files: their type, size and orientation, and their pixels. Begin here.
//
// Knows nothing of tables. Input is untrusted: sizes are checked against base/limits.h before memory is
// allocated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::media {

// What the header says, without decoding pixels.
struct ImageFacts {
  std::string media_type;  // "image/jpeg", "image/png", "image/webp"
  int32_t width = 0;       // as displayed: the orientation is applied
  int32_t height = 0;
  int8_t orientation = 1;  // EXIF: 1 (upright) to 8
  std::optional<int64_t>
      taken_us;  // EXIF DateTimeOriginal as a wall-clock time, microseconds since 1970-01-01
};

// Orientations that swap the axes: what is stored is `height` wide and `width` high.
inline bool SwapsAxes(int orientation) { return orientation >= 5; }
// Whether stored x (y) runs against the direction of the upright axis that it becomes.
inline bool FlipsX(int orientation) {
  return orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
}
inline bool FlipsY(int orientation) {
  return orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
}

// The media type by content (magic bytes), or "" if it is none of those known here.
std::string SniffMediaType(std::string_view bytes);

// Reads headers only, never pixels. Corrupt for truncated or damaged files; Limit where the header claims
// more than limits::kMaxPixels; Unsupported for anything that is not JPEG, PNG or WebP.
Result<ImageFacts> ProbeImage(std::string_view bytes);

// Interleaved RGB: pixels[(y * width + x) * 3 + channel], uint8. Transparency is laid over black; 16-bit
// samples are cut to 8; CMYK is converted.
struct Image {
  int32_t width = 0;
  int32_t height = 0;
  std::vector<uint8_t> pixels;  // (height, width, 3)
};
// `upright`: applies the EXIF orientation.
Result<Image> DecodeImage(std::string_view bytes, bool upright = true);

}  // namespace headrace::media
