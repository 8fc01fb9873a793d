// SHA-256, for what must be equal for certain: keys, signatures, bytes that are shared.
#pragma once

#include <string>
#include <string_view>

namespace headrace {

std::string Hex(std::string_view bytes);        // lower case
std::string Sha256(std::string_view bytes);     // 32 bytes
std::string Sha256Hex(std::string_view bytes);  // 64 digits

}  // namespace headrace
