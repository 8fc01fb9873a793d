#include "media/region.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "media/codecs.h"
#include "media/region_parts.h"
#include "media/turn.h"

namespace headrace::media {

Scratch::Scratch() : parts_(std::make_unique<Parts>()) {}
Scratch::~Scratch() = default;
Scratch::Scratch(Scratch&&) noexcept = default;
Scratch& Scratch::operator=(Scratch&&) noexcept = default;

namespace {

// A region in the pixels as they are stored, before the EXIF orientation. Orientations 5 to 8 swap the axes.
struct StoredRegion {
  double left, top, right, bottom;
  StoredRect bounds;
  int width, height;
};

StoredRegion ToStored(const Region& region, const ImageFacts& facts) {
  StoredRegion s{region.left,
                 region.top,
                 region.right,
                 region.bottom,
                 {region.bounds_left, region.bounds_top, region.bounds_right, region.bounds_bottom},
                 region.width,
                 region.height};
  if (SwapsAxes(facts.orientation)) {
    std::swap(s.left, s.top);
    std::swap(s.right, s.bottom);
    std::swap(s.bounds.left, s.bounds.top);
    std::swap(s.bounds.right, s.bounds.bottom);
    std::swap(s.width, s.height);
  }
  if (FlipsX(facts.orientation)) {
    std::tie(s.left, s.right) = std::pair(facts.width - s.right, facts.width - s.left);
    std::tie(s.bounds.left, s.bounds.right) =
        std::pair(facts.width - s.bounds.right, facts.width - s.bounds.left);
  }
  if (FlipsY(facts.orientation)) {
    std::tie(s.top, s.bottom) = std::pair(facts.height - s.bottom, facts.height - s.top);
    std::tie(s.bounds.top, s.bounds.bottom) =
        std::pair(facts.height - s.bounds.bottom, facts.height - s.bounds.top);
  }
  return s;
}

// The horizontal pass, row by row as they come.
class Across final : public RowSink {
 public:
  Across(const Taps& taps, int first_row, int64_t stride, uint8_t* out)
      : taps_(taps), first_row_(first_row), stride_(stride), out_(out) {}
  void Row(int y, const uint8_t* row, int first_column) override {
    ResampleRow(taps_, row, first_column, out_ + (y - first_row_) * stride_);
  }

 private:
  const Taps& taps_;
  int first_row_;
  int64_t stride_;
  uint8_t* out_;
};

int ChooseShrink(const StoredRegion& s, Filter filter) {
  if (filter == Filter::kNearest) return 1;
  const double ratio = std::min((s.right - s.left) / s.width, (s.bottom - s.top) / s.height);
  // The scaled inverse transforms average whole blocks instead of applying the filter: the remaining
  // reduction must hide the difference (PSNR at least 44 dB on photographs).
  if (ratio >= 32) return 8;
  if (ratio >= 8) return 4;
  return ratio >= 4 ? 2 : 1;
}

Status DecodeWhole(std::string_view bytes, const ImageFacts& facts, const StoredRect& rect,
                   Scratch::Parts* parts, RowSink* sink) {
  HEADRACE_ASSIGN(const Image image, DecodeImage(bytes, false));
  if (image.width != facts.width || image.height != facts.height) {
    return Status::Corrupt("the image is " + std::to_string(image.width) + " × " +
                           std::to_string(image.height) + "; its row says " + std::to_string(facts.width) +
                           " × " + std::to_string(facts.height));
  }
  const auto columns = static_cast<size_t>(rect.right - rect.left);
  parts->row.resize(columns * 4 + 64);
  for (int y = rect.top; y < rect.bottom; ++y) {
    const uint8_t* in = image.pixels.data() + (static_cast<size_t>(y) * image.width + rect.left) * 3;
    uint8_t* out = parts->row.data();
    for (size_t x = 0; x < columns; ++x, in += 3, out += 4) {
      out[0] = in[0];
      out[1] = in[1];
      out[2] = in[2];
      out[3] = 255;
    }
    sink->Row(y, parts->row.data(), rect.left);
  }
  return Status::Ok();
}

void MirrorRow(const uint8_t* in, int width, uint8_t* out) {
  for (int x = 0; x < width; ++x) std::memcpy(out + x * 4, in + (width - 1 - x) * 4, 4);
}

void Prepare(Canvas* canvas, int width, int height) {
  canvas->width = width;
  canvas->height = height;
  canvas->stride = int64_t{width} * 4;
  canvas->pixels.resize(static_cast<size_t>(canvas->stride * height) + 64);
}

}  // namespace

Status DecodeRegion(std::string_view bytes, const ImageFacts& displayed, const Region& region,
                    Scratch* scratch, Canvas* out) {
  Scratch::Parts* parts = &scratch->parts();
  ImageFacts facts = displayed;  // from here on as stored
  if (SwapsAxes(facts.orientation)) std::swap(facts.width, facts.height);
  HEADRACE_TRY(CheckPixels(facts.width, facts.height));
  HEADRACE_TRY(CheckPixels(region.width, region.height));
  StoredRegion s = ToStored(region, facts);
  const bool jpeg = SniffMediaType(bytes) == "image/jpeg";
  int shrink = jpeg ? ChooseShrink(s, region.filter) : 1;
  for (;; shrink = 1) {
    // In shrunk pixels from here on.
    const double fx = static_cast<double>(ShrunkSize(facts.width, shrink)) / facts.width;
    const double fy = static_cast<double>(ShrunkSize(facts.height, shrink)) / facts.height;
    const auto low = [](int v, double f) { return static_cast<int>(std::floor(v * f)); };
    const auto high = [](int v, double f) { return static_cast<int>(std::ceil(v * f - 1e-9)); };
    MakeTaps(s.left * fx, s.right * fx, low(s.bounds.left, fx), high(s.bounds.right, fx), s.width,
             region.filter, &parts->across);
    MakeTaps(s.top * fy, s.bottom * fy, low(s.bounds.top, fy), high(s.bounds.bottom, fy), s.height,
             region.filter, &parts->down);
    const StoredRect rect{parts->across.first, parts->down.first, parts->across.last, parts->down.last};
    const int64_t stride = (int64_t{s.width} * 4 + 31) / 32 * 32;
    const size_t needed = static_cast<size_t>(stride * (rect.bottom - rect.top)) + 64;
    if (parts->columns.size() < needed) parts->columns.resize(needed);
    Across sink(parts->across, rect.top, stride, parts->columns.data());
    bool done = false;
    if (jpeg) {
      HEADRACE_ASSIGN(done, DecodeJpegRows(bytes, facts, shrink, rect, parts, &sink));
      if (!done && shrink > 1) continue;  // the whole-image way, at full size
    }
    if (!done) HEADRACE_TRY(DecodeWhole(bytes, facts, rect, parts, &sink));

    Prepare(out, region.width, region.height);
    const bool turns = facts.orientation > 1;
    Canvas* canvas = turns ? &parts->turned : out;
    if (turns) Prepare(canvas, s.width, s.height);
    for (int y = 0; y < s.height; ++y) {
      uint8_t* row = canvas->pixels.data() + y * canvas->stride;
      if (region.mirror && !turns) {
        parts->row.resize(std::max<size_t>(parts->row.size(), static_cast<size_t>(stride) + 64));
        ResampleColumn(parts->down, y, parts->columns.data(), stride, rect.top, s.width * 4,
                       parts->row.data());
        MirrorRow(parts->row.data(), s.width, row);
      } else {
        ResampleColumn(parts->down, y, parts->columns.data(), stride, rect.top, s.width * 4, row);
      }
    }
    if (turns)
      Turn<4>({canvas->pixels.data(), canvas->stride, canvas->width, canvas->height}, facts.orientation,
              region.mirror, {out->pixels.data(), out->stride, out->width, out->height});
    return Status::Ok();
  }
}

}  // namespace headrace::media
