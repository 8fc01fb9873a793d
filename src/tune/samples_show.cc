#include "base/utf8.h"
#include "tune/samples.h"

namespace headrace::tune {
namespace {

// Control characters as pictures of them (U+2400), but for ends of lines and tabs: a text does not steer the
// terminal that shows it.
std::string Visible(std::string_view text) {
  std::string shown;
  for (size_t at = 0; at < text.size();) {
    const uint32_t code = NextCodePoint(text, &at);
    if (code == '\n' || code == '\t' || (code >= 0x20 && code < 0x7F) || code >= 0xA0) {
      AppendUtf8(code, &shown);
    } else {
      AppendUtf8(code < 0x20 ? 0x2400 + code : code == 0x7F ? 0x2421 : 0xFFFD, &shown);
    }
  }
  return shown;
}

}  // namespace

std::string Render(const model::Model& model, const Sample& sample, bool colours) {
  const auto size = static_cast<int64_t>(sample.tokens.size());
  std::string shown = "row " + std::to_string(sample.row_id) + ": " + std::to_string(size) + " tokens, " +
                      std::to_string(sample.learned()) + " learned";
  if (sample.whole > size) shown += ", cut from " + std::to_string(sample.whole);
  shown += "\n";
  for (size_t i = 0; i < sample.tokens.size();) {
    const uint8_t learn = sample.learn[i];
    std::string run;  // bytes of several tokens may be one character
    for (; i < sample.tokens.size() && sample.learn[i] == learn; ++i) {
      const std::string_view piece = model.Piece(sample.tokens[i]);
      run += piece.empty() ? model.Name(sample.tokens[i]) : std::string(piece);
    }
    const char* before = colours ? (learn != 0 ? "" : "\x1b[2m") : (learn != 0 ? "⟦" : "");
    const char* after = colours ? (learn != 0 ? "" : "\x1b[0m") : (learn != 0 ? "⟧" : "");
    shown += before + Visible(run) + after;
  }
  return shown.ends_with('\n') ? shown : shown + "\n";
}

}  // namespace headrace::tune
