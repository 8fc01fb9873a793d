// Base64 (RFC 4648, section 4): the alphabet with '+' and '/'.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace headrace {

// With padding.
std::string EncodeBase64(std::string_view bytes);
// Nothing where the text is not base64: another character, a length that none has, bits left over. Padding
// may be missing.
std::optional<std::string> DecodeBase64(std::string_view text);

inline bool IsBase64Letter(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

}  // namespace headrace
