// A part of an image, decoded no further than it must be and resampled into the size asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "media/media.h"
#include "media/resample.h"

namespace headrace::media {

// What to show of an upright image: `box` (pixels, may be fractional) stretched over width × height outputs.
// Only pixels inside `bounds` take part; a filter that reaches beyond them is cut off there.
struct Region {
  double left = 0, top = 0, right = 0, bottom = 0;
  int bounds_left = 0, bounds_top = 0, bounds_right = 0, bounds_bottom = 0;
  int width = 0;
  int height = 0;
  Filter filter = Filter::kBilinear;
  bool mirror = false;  // left to right, after resampling
};

// Buffers and decoders reused from image to image. Not thread-safe: one per thread.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(Scratch&&) noexcept;
  Scratch& operator=(Scratch&&) noexcept;

  struct Parts;
  Parts& parts() { return *parts_; }

 private:
  std::unique_ptr<Parts> parts_;
};

// RGBX, 4 bytes a pixel: pixels[y * stride + x * 4 + channel]; 32 bytes behind the last are readable.
struct Canvas {
  int width = 0;
  int height = 0;
  int64_t stride = 0;
  std::vector<uint8_t> pixels;
};

// `facts`: what a table says of the image (width and height as displayed, orientation). Corrupt if the image
// itself says otherwise. A JPEG is decoded from the region's first row to its last, in the columns of the
// region, and at 1/2, 1/4 or 1/8 of its size where the
// region would still be shrunk twofold (fourfold at 1/8).
Status DecodeRegion(std::string_view bytes, const ImageFacts& facts, const Region& region, Scratch* scratch,
                    Canvas* out);

}  // namespace headrace::media
