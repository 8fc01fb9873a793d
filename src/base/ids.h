// Identifiers that need no coordination.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headrace {

// 128 random bits (RFC 9562, version 4), printed as 32 lower-case hex digits.
struct Uuid {
  std::array<uint8_t, 16> bytes{};

  static Uuid Random();
  static Result<Uuid> Parse(std::string_view hex);
  std::string ToString() const;
  bool operator==(const Uuid&) const = default;
  auto operator<=>(const Uuid&) const = default;
};

}  // namespace headrace
