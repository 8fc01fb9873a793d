// Image transforms: a list of steps, and the parameters drawn for one image at one position.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "media/colour.h"
#include "media/region.h"

namespace headrace::stream {

struct ImageStep {
  enum class Kind { kRandomResizedCrop, kResize, kCenterCrop, kRandomCrop, kHorizontalFlip, kColorJitter };
  Kind kind = Kind::kResize;
  int height = 0;  // of the crop or the result
  int width = 0;   // 0 (resize): `height` is the shorter side
  std::array<double, 2> scale{0.08, 1.0};
  std::array<double, 2> ratio{3.0 / 4, 4.0 / 3};
  double probability = 0.5;
  std::array<double, 2> brightness{1, 1}, contrast{1, 1}, saturation{1, 1}, hue{0, 0};
  media::Filter filter = media::Filter::kBilinear;
};

// From JSON: a list of {"op": "random_resized_crop", "size": [h, w], "scale": [lo, hi], "ratio": [lo, hi],
// "filter": "bilinear"}, {"op": "resize", "size": [h, w] or short side}, {"op": "center_crop", "size": [h,
// w]},
// {"op": "random_crop", "size": [h, w]}, {"op": "horizontal_flip", "p": 0.5}, {"op": "color_jitter",
// "brightness": [lo, hi], …}, {"op": "normalize", "mean": [3], "std": [3]}, {"op": "to", "dtype": "float32"},
// {"op": "layout", "layout": "NCHW" or "NHWC"}.
class ImageOps {
 public:
  static Result<ImageOps> Parse(const std::string& json);

  int height() const { return height_; }
  int width() const { return width_; }
  media::Element element() const { return table_->element(); }
  bool planes() const { return planes_; }
  int64_t bytes() const { return int64_t{height_} * width_ * 3 * media::ElementBytes(element()); }

  struct Drawn {
    media::Region region;
    media::Jitter jitter;
  };
  // For an upright picture of this size, with the random numbers of `key`. Invalid if a crop is larger than
  // the picture.
  Result<Drawn> Draw(int width, int height, uint64_t key) const;

  // Decodes, crops, resizes and writes one picture's numbers: (3, height, width), or (height, width, 3).
  Status Run(std::string_view bytes, const media::ImageFacts& facts, uint64_t key, media::Scratch* scratch,
             media::Canvas* canvas, void* out) const;

 private:
  std::vector<ImageStep> steps_;
  int height_ = 0;
  int width_ = 0;
  bool planes_ = true;
  std::shared_ptr<const media::ElementTable> table_;
};

}  // namespace headrace::stream
