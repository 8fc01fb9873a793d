#include "stream/image_ops.h"

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "base/limits.h"
#include "stream/permute.h"

namespace headrace::stream {
namespace {

using nlohmann::json;

Status Wrong(const std::string& op, const std::string& what) {
  return Status::Invalid("the image step '" + op + "' " + what);
}

Result<std::array<double, 2>> Range(const json& step, const std::string& op, const char* name,
                                    std::array<double, 2> otherwise, double low, double high) {
  if (!step.contains(name)) return otherwise;
  const json& value = step[name];
  if (!value.is_array() || value.size() != 2 || !value[0].is_number() || !value[1].is_number()) {
    return Wrong(op, std::string("needs two numbers as ") + name);
  }
  const std::array<double, 2> range{value[0].get<double>(), value[1].get<double>()};
  if (!(range[0] <= range[1]) || range[0] < low || range[1] > high) {
    return Wrong(op, std::string("has an impossible range for ") + name);
  }
  return range;
}

Status ParseSize(const json& step, const std::string& op, bool short_side_allowed, ImageStep* out) {
  const json size = step.value("size", json());
  if (size.is_number_integer() && short_side_allowed) {
    out->height = size.get<int>();
    out->width = 0;
  } else if (size.is_array() && size.size() == 2 && size[0].is_number_integer() &&
             size[1].is_number_integer()) {
    out->height = size[0].get<int>();
    out->width = size[1].get<int>();
    if (out->width < 1) return Wrong(op, "needs a size of at least 1");
  } else {
    return Wrong(op, "needs a size: [height, width]");
  }
  if (out->height < 1 || int64_t{out->height} * std::max(out->width, 1) > limits::kMaxPixels) {
    return Wrong(op, "has an impossible size");
  }
  return Status::Ok();
}

Result<std::array<double, 3>> Triple(const json& step, const std::string& op, const char* name) {
  const json value = step.value(name, json());
  std::array<double, 3> numbers{};
  if (!value.is_array() || value.size() != 3) return Wrong(op, std::string("needs three numbers as ") + name);
  for (size_t i = 0; i < 3; ++i) {
    if (!value[i].is_number()) return Wrong(op, std::string("needs three numbers as ") + name);
    numbers[i] = value[i].get<double>();
  }
  return numbers;
}

Result<media::Element> ParseElement(const std::string& name) {
  if (name == "uint8") return media::Element::kUInt8;
  if (name == "float16") return media::Element::kFloat16;
  if (name == "bfloat16") return media::Element::kBFloat16;
  if (name == "float32") return media::Element::kFloat32;
  return Wrong("to", "knows uint8, float16, bfloat16 and float32, not '" + name + "'");
}

// The state between steps: which part of the source is shown, and at what size.
struct Frame {
  double left, top, right, bottom;
  int bounds[4];  // left, top, right, bottom
  int width, height;
};

Status CropFrame(Frame* frame, int width, int height, double left, double top) {
  if (width > frame->width || height > frame->height) {
    return Status::Invalid("a crop of " + std::to_string(width) + " × " + std::to_string(height) +
                           " does not fit in a picture of " + std::to_string(frame->width) + " × " +
                           std::to_string(frame->height) + "; put a Resize before it");
  }
  const double sx = (frame->right - frame->left) / frame->width;
  const double sy = (frame->bottom - frame->top) / frame->height;
  frame->left += left * sx;
  frame->top += top * sy;
  frame->right = frame->left + width * sx;
  frame->bottom = frame->top + height * sy;
  frame->width = width;
  frame->height = height;
  return Status::Ok();
}

// torchvision.transforms.RandomResizedCrop.get_params: ten tries, then the largest centred crop of a ratio
// that is allowed.
void RandomResizedCrop(const ImageStep& step, Draws* draws, Frame* frame) {
  const int width = frame->width;
  const int height = frame->height;
  const double area = static_cast<double>(width) * height;
  int w = 0;
  int h = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * draws->Uniform(step.scale[0], step.scale[1]);
    const double aspect = std::exp(draws->Uniform(std::log(step.ratio[0]), std::log(step.ratio[1])));
    const auto try_w = static_cast<int>(std::lround(std::sqrt(target * aspect)));
    const auto try_h = static_cast<int>(std::lround(std::sqrt(target / aspect)));
    if (try_w < 1 || try_h < 1 || try_w > width || try_h > height) continue;
    w = try_w;
    h = try_h;
    break;
  }
  int left = 0;
  int top = 0;
  if (w > 0) {
    left = static_cast<int>(draws->Uniform() * (width - w + 1));
    top = static_cast<int>(draws->Uniform() * (height - h + 1));
  } else {
    const double aspect = static_cast<double>(width) / height;
    w = width;
    h = height;
    if (aspect < step.ratio[0]) h = std::clamp(static_cast<int>(std::lround(w / step.ratio[0])), 1, height);
    if (aspect > step.ratio[1]) w = std::clamp(static_cast<int>(std::lround(h * step.ratio[1])), 1, width);
    left = (width - w) / 2;
    top = (height - h) / 2;
  }
  *frame = {static_cast<double>(left),
            static_cast<double>(top),
            static_cast<double>(left + w),
            static_cast<double>(top + h),
            {left, top, left + w, top + h},
            step.width,
            step.height};
}

// A step that leaves the size as it is.
Status ParseChange(const json& step, const std::string& op, ImageStep* made) {
  if (op == "horizontal_flip") {
    made->kind = ImageStep::Kind::kHorizontalFlip;
    made->probability = step.value("p", json(0.5)).is_number() ? step.value("p", 0.5) : -1;
    if (!(made->probability >= 0 && made->probability <= 1))
      return Wrong(op, "needs a probability from 0 to 1");
    return Status::Ok();
  }
  made->kind = ImageStep::Kind::kColorJitter;
  HEADRACE_ASSIGN(made->brightness, Range(step, op, "brightness", made->brightness, 0, 16));
  HEADRACE_ASSIGN(made->contrast, Range(step, op, "contrast", made->contrast, 0, 16));
  HEADRACE_ASSIGN(made->saturation, Range(step, op, "saturation", made->saturation, 0, 16));
  HEADRACE_ASSIGN(made->hue, Range(step, op, "hue", made->hue, -0.5, 0.5));
  return Status::Ok();
}

}  // namespace

Result<ImageOps> ImageOps::Parse(const std::string& text) {
  const json list = ParseJson(text);
  if (!list.is_array()) return Status::Invalid("image steps are a list");
  ImageOps ops;
  std::array<double, 3> mean{0, 0, 0};
  std::array<double, 3> deviation{1, 1, 1};
  media::Element element = media::Element::kUInt8;
  bool typed = false;
  bool normalized = false;
  bool resampled = false;
  for (const json& step : list) {
    if (!step.is_object() || !step.value("op", json()).is_string())
      return Status::Invalid("an image step has no op");
    const std::string op = step["op"].get<std::string>();
    ImageStep made;
    if (step.contains("filter")) {
      if (!step["filter"].is_string()) return Wrong(op, "names its filter in text");
      HEADRACE_ASSIGN(made.filter, media::ParseFilter(step["filter"].get<std::string>()));
    }
    if (op == "random_resized_crop" || op == "resize") {
      made.kind = op == "resize" ? ImageStep::Kind::kResize : ImageStep::Kind::kRandomResizedCrop;
      HEADRACE_TRY(ParseSize(step, op, made.kind == ImageStep::Kind::kResize, &made));
      HEADRACE_ASSIGN(made.scale, Range(step, op, "scale", made.scale, 1e-6, 1));
      HEADRACE_ASSIGN(made.ratio, Range(step, op, "ratio", made.ratio, 1e-3, 1e3));
      if (resampled) return Wrong(op, "resizes a second time; one resampling step is made");
      if (made.kind == ImageStep::Kind::kRandomResizedCrop && !ops.steps_.empty() && ops.height_ > 0)
        return Wrong(op, "comes after another crop");
      resampled = true;
      ops.height_ = made.height;
      ops.width_ = made.width;
    } else if (op == "center_crop" || op == "random_crop") {
      made.kind = op == "center_crop" ? ImageStep::Kind::kCenterCrop : ImageStep::Kind::kRandomCrop;
      HEADRACE_TRY(ParseSize(step, op, false, &made));
      ops.height_ = made.height;
      ops.width_ = made.width;
    } else if (op == "horizontal_flip" || op == "color_jitter") {
      HEADRACE_TRY(ParseChange(step, op, &made));
    } else if (op == "normalize") {
      HEADRACE_ASSIGN(mean, Triple(step, op, "mean"));
      HEADRACE_ASSIGN(deviation, Triple(step, op, "std"));
      for (const double d : deviation) {
        if (!(d > 0)) return Wrong(op, "needs deviations above 0");
      }
      normalized = true;
      if (!typed) element = media::Element::kFloat32;
      continue;
    } else if (op == "to") {
      if (!step.value("dtype", json()).is_string()) return Wrong(op, "needs a dtype");
      HEADRACE_ASSIGN(element, ParseElement(step["dtype"].get<std::string>()));
      typed = true;
      continue;
    } else if (op == "layout") {
      const std::string layout =
          step.value("layout", json()).is_string() ? step["layout"].get<std::string>() : "";
      if (layout != "NCHW" && layout != "NHWC") return Wrong(op, "knows NCHW and NHWC");
      ops.planes_ = layout == "NCHW";
      continue;
    } else {
      return Status::Invalid("there is no image step '" + op + "'");
    }
    ops.steps_.push_back(made);
  }
  if (normalized && element == media::Element::kUInt8)
    return Status::Invalid("normalized pixels do not fit in uint8; choose float16, bfloat16 or float32");
  if (ops.height_ == 0 || ops.width_ == 0) {
    return Status::Invalid(
        "the image steps leave pictures of different sizes, which make no batch; end with a crop or a Resize "
        "to "
        "(height, width)");
  }
  ops.table_ = std::make_shared<media::ElementTable>(element, mean, deviation);
  return ops;
}

Result<ImageOps::Drawn> ImageOps::Draw(int width, int height, uint64_t key) const {
  Draws draws(key);
  Frame frame{0,     0,     static_cast<double>(width), static_cast<double>(height), {0, 0, width, height},
              width, height};
  Drawn drawn;
  drawn.region.filter = media::Filter::kBilinear;
  for (const auto& step : steps_) {
    switch (step.kind) {
      case ImageStep::Kind::kRandomResizedCrop:
        RandomResizedCrop(step, &draws, &frame);
        drawn.region.filter = step.filter;
        break;
      case ImageStep::Kind::kResize:
        if (step.width > 0) {
          frame.width = step.width;
          frame.height = step.height;
        } else {  // the longer side as torchvision rounds it
          int& shorter = frame.width <= frame.height ? frame.width : frame.height;
          int& longer = frame.width <= frame.height ? frame.height : frame.width;
          longer = static_cast<int>(int64_t{step.height} * longer / shorter);
          shorter = step.height;
        }
        drawn.region.filter = step.filter;
        break;
      case ImageStep::Kind::kCenterCrop:
        HEADRACE_TRY(CropFrame(&frame, step.width, step.height, std::round((frame.width - step.width) / 2.0),
                               std::round((frame.height - step.height) / 2.0)));
        break;
      case ImageStep::Kind::kRandomCrop: {
        const double left = std::floor(draws.Uniform() * (std::max(0, frame.width - step.width) + 1));
        const double top = std::floor(draws.Uniform() * (std::max(0, frame.height - step.height) + 1));
        HEADRACE_TRY(CropFrame(&frame, step.width, step.height, left, top));
        break;
      }
      case ImageStep::Kind::kHorizontalFlip:
        if (draws.Uniform() < step.probability) drawn.region.mirror = !drawn.region.mirror;
        break;
      case ImageStep::Kind::kColorJitter:
        drawn.jitter.brightness *= draws.Uniform(step.brightness[0], step.brightness[1]);
        drawn.jitter.contrast *= draws.Uniform(step.contrast[0], step.contrast[1]);
        drawn.jitter.saturation *= draws.Uniform(step.saturation[0], step.saturation[1]);
        drawn.jitter.hue += draws.Uniform(step.hue[0], step.hue[1]);
        break;
    }
  }
  media::Region& region = drawn.region;
  region.left = frame.left;
  region.top = frame.top;
  region.right = frame.right;
  region.bottom = frame.bottom;
  region.bounds_left = frame.bounds[0];
  region.bounds_top = frame.bounds[1];
  region.bounds_right = frame.bounds[2];
  region.bounds_bottom = frame.bounds[3];
  region.width = frame.width;
  region.height = frame.height;
  return drawn;
}

Status ImageOps::Run(std::string_view bytes, const media::ImageFacts& facts, uint64_t key,
                     media::Scratch* scratch, media::Canvas* canvas, void* out) const {
  HEADRACE_ASSIGN(const Drawn drawn, Draw(facts.width, facts.height, key));
  HEADRACE_TRY(media::DecodeRegion(bytes, facts, drawn.region, scratch, canvas));
  if (drawn.jitter.any()) media::ApplyJitter(drawn.jitter, canvas);
  table_->Write(*canvas, planes_, out);
  return Status::Ok();
}

}  // namespace headrace::stream
