// Identifiers that need no coordination.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headrace {

// 128 random bits (RFC 9562, version 4), printed as 32 lower-case hex digits.
struct Uuid {
  std::array<uint8_t, 16> bytes{};

  static Uuid Random();
  static Result<Uuid> Parse(std::string_view hex);
  // As people write them: hyphens or none, any case, braces or none.
  static std::optional<Uuid> ParseWritten(std::string_view text);
  std::string ToString() const;
  std::string Hyphenated() const;  // "550e8400-e29b-41d4-a716-446655440000"
  bool operator==(const Uuid&) const = default;
  auto operator<=>(const Uuid&) const = default;
};

}  // namespace headrace
