#include "cli/picture.h"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "media/region.h"

namespace headrace::cli {
namespace {

constexpr int kAnswerMilliseconds = 500;
constexpr size_t kKittyChunk = 4096;  // base64 digits in one escape sequence, as the protocol wants
constexpr int kLevels = 6;            // of each colour in sixels: 216 colours

std::string Base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t three = 0;
    for (size_t k = 0; k < 3; ++k)
      three = three << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) text += i + k > bytes.size() ? '=' : kDigits[three >> (18 - 6 * k) & 63];
  }
  return text;
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// What the terminal answers to `question`, up to `last`.
std::string Ask(std::string_view question, char last) {
  termios before{};
  if (tcgetattr(STDIN_FILENO, &before) != 0) return "";
  termios raw = before;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  std::string answer;
  if (write(STDOUT_FILENO, question.data(), question.size()) == static_cast<ssize_t>(question.size())) {
    pollfd waits{STDIN_FILENO, POLLIN, 0};
    char one = 0;
    while (answer.size() < 100 && one != last && poll(&waits, 1, kAnswerMilliseconds) > 0 &&
           read(STDIN_FILENO, &one, 1) == 1)
      answer += one;
  }
  tcsetattr(STDIN_FILENO, TCSANOW, &before);
  return answer;
}

// The image in RGBX, as large as fits.
Result<media::Canvas> Fitted(std::string_view bytes, int width, int height) {
  HEADRACE_ASSIGN(const media::ImageFacts facts, media::ProbeImage(bytes));
  const double scale =
      std::min({1.0, width / static_cast<double>(facts.width), height / static_cast<double>(facts.height)});
  media::Region region;
  region.right = region.bounds_right = facts.width;
  region.bottom = region.bounds_bottom = facts.height;
  region.width = std::max(1, static_cast<int>(facts.width * scale));
  region.height = std::max(1, static_cast<int>(facts.height * scale));
  media::Scratch scratch;
  media::Canvas canvas;
  HEADRACE_TRY(media::DecodeRegion(bytes, facts, region, &scratch, &canvas));
  return canvas;
}

std::string Kitty(const media::Canvas& canvas) {
  std::string rgb;
  for (int y = 0; y < canvas.height; ++y)
    for (int x = 0; x < canvas.width; ++x)
      rgb.append(
          reinterpret_cast<const char*>(&canvas.pixels[static_cast<size_t>(y * canvas.stride + x * 4)]), 3);
  const std::string digits = Base64(rgb);
  std::string text;
  for (size_t at = 0; at < digits.size(); at += kKittyChunk) {
    const bool more = at + kKittyChunk < digits.size();
    text += "\033_G";
    if (at == 0)
      text += "a=T,f=24,s=" + std::to_string(canvas.width) + ",v=" + std::to_string(canvas.height) + ",";
    text += std::string("m=") + (more ? "1;" : "0;") + digits.substr(at, kKittyChunk) + "\033\\";
  }
  return text + "\n";
}

std::string Iterm2(std::string_view bytes, int width, int height) {
  return "\033]1337;File=inline=1;size=" + std::to_string(bytes.size()) + ";width=" + std::to_string(width) +
         "px;height=" + std::to_string(height) + "px:" + Base64(bytes) + "\a\n";
}

// One band of six rows: for each colour in it, which of the six pixels of each column have it.
void AddBand(const media::Canvas& canvas, int top, std::string* text) {
  const auto colour_at = [&](int x, int y) {
    const uint8_t* pixel = &canvas.pixels[static_cast<size_t>(y * canvas.stride + x * 4)];
    const auto level = [](uint8_t channel) { return (channel * (kLevels - 1) + 127) / 255; };
    return (level(pixel[0]) * kLevels + level(pixel[1])) * kLevels + level(pixel[2]);
  };
  std::array<std::vector<uint8_t>, kLevels * kLevels * kLevels> masks;
  for (int y = top; y < std::min(top + 6, canvas.height); ++y)
    for (int x = 0; x < canvas.width; ++x) {
      auto& mask = masks[static_cast<size_t>(colour_at(x, y))];
      mask.resize(static_cast<size_t>(canvas.width));
      mask[static_cast<size_t>(x)] |= static_cast<uint8_t>(1 << (y - top));
    }
  for (size_t colour = 0; colour < masks.size(); ++colour) {
    if (masks[colour].empty()) continue;
    *text += "#" + std::to_string(colour);
    for (const uint8_t mask : masks[colour]) *text += static_cast<char>('?' + mask);
    *text += '$';
  }
  *text += '-';
}

std::string Sixel(const media::Canvas& canvas) {
  std::string text = "\033Pq\"1;1;" + std::to_string(canvas.width) + ";" + std::to_string(canvas.height);
  for (int colour = 0; colour < kLevels * kLevels * kLevels; ++colour) {
    const auto percent = [](int level) { return std::to_string(level * 100 / (kLevels - 1)); };
    text += "#" + std::to_string(colour) + ";2;" + percent(colour / (kLevels * kLevels)) + ";" +
            percent(colour / kLevels % kLevels) + ";" + percent(colour % kLevels);
  }
  for (int top = 0; top < canvas.height; top += 6) AddBand(canvas, top, &text);
  return text + "\033\\\n";
}

}  // namespace

Pictures PicturesOfTerminal() {
  if (isatty(STDOUT_FILENO) != 1 || isatty(STDIN_FILENO) != 1) return Pictures::kNone;
  const std::string term = Variable("TERM"), program = Variable("TERM_PROGRAM");
  if (!Variable("KITTY_WINDOW_ID").empty() || term.find("kitty") != std::string::npos ||
      program == "ghostty" || program == "WezTerm" || !Variable("KONSOLE_VERSION").empty())
    return Pictures::kKitty;
  if (program == "iTerm.app" || program == "vscode") return Pictures::kIterm2;
  if (term.empty() || term == "dumb" || term == "linux") return Pictures::kNone;
  // "ESC [ ? 62 ; 4 ; 22 c": attribute 4 is sixel graphics.
  const std::string answer = Ask("\033[c", 'c');
  const bool sixel = answer.find(";4;") != std::string::npos || answer.ends_with(";4c");
  return sixel ? Pictures::kSixel : Pictures::kNone;
}

Result<Pictures> ParsePictures(const std::string& word) {
  if (word == "auto") return PicturesOfTerminal();
  if (word == "kitty") return Pictures::kKitty;
  if (word == "iterm2") return Pictures::kIterm2;
  if (word == "sixel") return Pictures::kSixel;
  if (word == "none") return Pictures::kNone;
  return Status::Invalid("--pictures is auto, kitty, iterm2, sixel or none, not '" + word + "'");
}

Result<std::string> DrawPicture(Pictures how, std::string_view bytes, int width, int height) {
  if (how == Pictures::kNone) return std::string();
  HEADRACE_ASSIGN(const media::Canvas canvas, Fitted(bytes, width, height));
  if (how == Pictures::kIterm2) return Iterm2(bytes, canvas.width, canvas.height);
  return how == Pictures::kKitty ? Kitty(canvas) : Sixel(canvas);
}

}  // namespace headrace::cli
