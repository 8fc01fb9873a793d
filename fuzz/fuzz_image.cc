// Probing and decoding of images: whole, and a part of them resized.
#include <cstdint>
#include <string_view>

#include "media/media.h"
#include "media/region.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace::media;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto facts = ProbeImage(bytes);
  if (!facts.ok() || int64_t{facts->width} * facts->height >= 1'000'000) return 0;
  (void)DecodeImage(bytes);
  // A region that depends on the input: somewhere inside, any filter, any orientation.
  const bool swaps = facts->orientation >= 5;
  const int width = swaps ? facts->height : facts->width;
  const int height = swaps ? facts->width : facts->height;
  const auto pick = [&](size_t at, int most) { return most <= 0 ? 0 : data[at % size] * 37 % (most + 1); };
  Region region;
  region.bounds_left = pick(size / 2, width - 1);
  region.bounds_top = pick(size / 3, height - 1);
  region.bounds_right = region.bounds_left + 1 + pick(size / 5, width - region.bounds_left - 1);
  region.bounds_bottom = region.bounds_top + 1 + pick(size / 7, height - region.bounds_top - 1);
  region.left = region.bounds_left;
  region.top = region.bounds_top;
  region.right = region.bounds_right;
  region.bottom = region.bounds_bottom;
  region.width = 1 + pick(size / 11, 40);
  region.height = 1 + pick(size / 13, 40);
  region.filter = static_cast<Filter>(pick(size / 17, 4));
  region.mirror = pick(size / 19, 1) == 1;
  static Scratch scratch;
  static Canvas canvas;
  (void)DecodeRegion(bytes, *facts, region, &scratch, &canvas);
  return 0;
}
