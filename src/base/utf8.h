// Characters as UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace headrace {

inline void AppendUtf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
  } else if (c < 0x10000) {
    *out += {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
             static_cast<char>(0x80 | (c & 63))};
  } else {
    *out += {static_cast<char>(0xf0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 63)),
             static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
  }
}

// ASCII letters in lower case; other bytes unchanged.
std::string AsciiLower(std::string_view text);
// Length of the character that begins at `text[at]`: 1 to 4; 0 if it is no UTF-8; -1 if it may become one
// with more bytes.
int Utf8Length(std::string_view text, size_t at);
// The character that begins at `text[*at]`, U+FFFD for a byte that begins none; `at` moves past it.
uint32_t NextCodePoint(std::string_view text, size_t* at);
// `text` with every byte that is not part of valid UTF-8 replaced by U+FFFD.
std::string CleanUtf8(std::string_view text);
// How many bytes of `text` may be shown so that no character is cut that more bytes could complete.
size_t CompleteUtf8(std::string_view text);

}  // namespace headrace
