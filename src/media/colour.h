// Colour changes, and pixels to numbers: type, normalization and layout.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "media/region.h"

namespace headrace::media {

// Factors around 1 and a turn of the hue in turns (-0.5 to 0.5); applied in this order, in 16-bit fixed point
// on 8-bit pixels, each step rounded to 8 bits. Contrast turns about the mean luma (ITU-R BT.601), hue turns
// the chroma plane of YIQ.
struct Jitter {
  double brightness = 1;
  double contrast = 1;
  double saturation = 1;
  double hue = 0;
  bool any() const { return brightness != 1 || contrast != 1 || saturation != 1 || hue != 0; }
};
void ApplyJitter(const Jitter& jitter, Canvas* canvas);

enum class Element { kUInt8, kFloat16, kBFloat16, kFloat32 };
int ElementBytes(Element element);

// What each 8-bit value becomes, channel by channel: (value / 255 - mean) / deviation, rounded to nearest
// even in the narrow types. As uint8 the values stay as they are.
class ElementTable {
 public:
  ElementTable(Element element, const std::array<double, 3>& mean, const std::array<double, 3>& deviation);
  Element element() const { return element_; }
  // (height, width, 3) or, with `planes`, (3, height, width), row-major.
  void Write(const Canvas& canvas, bool planes, void* out) const;

 private:
  template <typename T>
  void WriteAs(const std::vector<T>& table, const Canvas& canvas, bool planes, T* out) const;
  Element element_;
  std::vector<uint16_t> half_;  // (3, 256)
  std::vector<float> single_;   // (3, 256)
};

}  // namespace headrace::media
