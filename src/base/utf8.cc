#include "base/utf8.h"

#include <algorithm>

namespace headrace {

// The table of well-formed sequences: Unicode 15, table 3-7.
int Utf8Length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return 1;
  int length = 0;
  unsigned char low = 0x80, high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  for (int i = 1; i < length; ++i) {
    if (at + static_cast<size_t>(i) >= text.size()) return -1;
    const unsigned char next = byte(at + static_cast<size_t>(i));
    if (next < low || next > high) return 0;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

uint32_t NextCodePoint(std::string_view text, size_t* at) {
  const int length = Utf8Length(text, *at);
  const auto lead = static_cast<unsigned char>(text[(*at)++]);
  if (length <= 1) return length == 1 ? lead : 0xFFFD;
  uint32_t code = lead & (0x7FU >> static_cast<unsigned>(length));
  for (int i = 1; i < length; ++i) code = (code << 6U) | (static_cast<unsigned char>(text[(*at)++]) & 0x3FU);
  return code;
}

size_t CompleteUtf8(std::string_view text) {
  // Only the last three bytes can begin a character that is not complete.
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const size_t at = text.size() - back;
    if ((static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80) continue;
    return Utf8Length(text, at) == -1 ? at : text.size();
  }
  return text.size();
}

std::string CleanUtf8(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const int length = Utf8Length(text, at);
    if (length > 0) {
      clean += text.substr(at, static_cast<size_t>(length));
      at += static_cast<size_t>(length);
    } else {
      clean += "\xEF\xBF\xBD";
      ++at;
      if (length < 0)
        while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80) ++at;
    }
  }
  return clean;
}

std::string AsciiLower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

}  // namespace headrace
