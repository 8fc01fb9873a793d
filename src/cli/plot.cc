#include "cli/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/render.h"

namespace headrace::cli {
namespace {

constexpr int kLabel = 11;                     // characters of a value and a space
constexpr int kDotsAcross = 2, kDotsDown = 4;  // of a Braille character (Unicode 2800 to 28FF)
// The bit of the dot at [line][column].
constexpr uint8_t kDots[kDotsDown][kDotsAcross] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};

std::string Braille(uint8_t dots) {
  const auto code = static_cast<uint32_t>(0x2800 + dots);
  return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

std::string PadLeft(const std::string& text, int width) {
  return std::string(static_cast<size_t>(std::max(0, width - DisplayWidth(text))), ' ') + text;
}

// The dots of one column, from the lowest to the highest line of dots, 0 at the top.
struct Span {
  int top = 0, bottom = -1;
};

}  // namespace

std::string ShortNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char text[40];
  if (value == std::floor(value) && std::abs(value) < 1e7) {
    std::snprintf(text, sizeof text, "%.0f", value);
  } else {
    std::snprintf(text, sizeof text, "%.4g", value);
  }
  return text;
}

int PlotPixels(const PlotOptions& options) {
  return std::max(1, options.width - kLabel) * (options.ascii ? 1 : kDotsAcross);
}

std::vector<std::string> Plot(const trace::Curve& curve, const PlotOptions& options) {
  double least = INFINITY, most = -INFINITY;
  for (const trace::Pixel& pixel : curve.pixels) {
    if (pixel.n == 0) continue;
    if (std::isfinite(pixel.min)) least = std::min(least, pixel.min);
    if (std::isfinite(pixel.max)) most = std::max(most, pixel.max);
  }
  if (least > most) return {};
  const int across = options.ascii ? 1 : kDotsAcross, down = options.ascii ? 1 : kDotsDown;
  const int lines = std::max(1, options.height), rows = lines * down;
  const int columns =
      static_cast<int>((curve.pixels.size() + static_cast<size_t>(across) - 1) / static_cast<size_t>(across));
  const auto row_of = [&](double value) {
    const double share = most == least ? 0.5 : (value - least) / (most - least);
    return std::clamp(static_cast<int>(std::lround((1 - share) * (rows - 1))), 0, rows - 1);
  };
  std::vector<std::vector<uint8_t>> cells(static_cast<size_t>(lines),
                                          std::vector<uint8_t>(static_cast<size_t>(columns), 0));
  int before = -1;  // the last value's line of dots, to join it with the next
  for (size_t x = 0; x < curve.pixels.size(); ++x) {
    const trace::Pixel& pixel = curve.pixels[x];
    if (pixel.n == 0 || !std::isfinite(pixel.min) || !std::isfinite(pixel.max)) continue;
    Span span{row_of(pixel.max), row_of(pixel.min)};
    const int first = row_of(pixel.first);
    if (before >= 0 && before < first) span.top = std::min(span.top, before + 1);
    if (before >= 0 && before > first) span.bottom = std::max(span.bottom, before - 1);
    for (int row = span.top; row <= span.bottom; ++row) {
      const auto line = static_cast<size_t>(row / down), column = x / static_cast<size_t>(across);
      cells[line][column] |= kDots[options.ascii ? 0 : row % down][options.ascii ? 0 : x % 2];
    }
    before = row_of(pixel.last);
  }
  std::vector<std::string> out;
  for (int line = 0; line < lines; ++line) {
    std::string label;
    if (line == 0) label = ShortNumber(most);
    if (line == lines - 1 && lines > 1) label = ShortNumber(least);
    std::string text = PadLeft(label, kLabel - 1) + " ";
    for (const uint8_t dots : cells[static_cast<size_t>(line)])
      text += options.ascii ? std::string(1, dots != 0 ? '*' : ' ') : Braille(dots);
    out.push_back(std::move(text));
  }
  const std::string from = std::to_string(curve.from), to = std::to_string(curve.to);
  out.push_back(
      std::string(kLabel, ' ') + from +
      PadLeft(to, std::max(static_cast<int>(to.size()) + 1, columns - static_cast<int>(from.size()))));
  return out;
}

}  // namespace headrace::cli
