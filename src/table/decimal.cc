#include "table/decimal.h"

#include <algorithm>
#include <cctype>

namespace headrace::table {
namespace {

template <typename Float>
Float Convert(const Decimal& decimal, int mantissa_bits) {
  const Int128 limit = Int128{1} << mantissa_bits;
  const auto power = static_cast<Float>(static_cast<double>(PowerOfTen(decimal.scale)));
  if (decimal.scale == 0 || (decimal.unscaled >= -limit && decimal.unscaled <= limit))
    return static_cast<Float>(decimal.unscaled) / power;
  const Int128 whole = PowerOfTen(decimal.scale);
  const Int128 units = decimal.unscaled / whole;
  return static_cast<Float>(units) + static_cast<Float>(decimal.unscaled % whole) / power;
}

}  // namespace

Int128 PowerOfTen(int exponent) {
  Int128 power = 1;
  for (int i = 0; i < exponent; ++i) power *= 10;
  return power;
}

bool FitsDecimal(Int128 unscaled) {
  static const Int128 kLimit = PowerOfTen(kMaxDecimalDigits);
  return unscaled > -kLimit && unscaled < kLimit;
}

std::optional<Decimal> ParseDecimal(std::string_view text) {
  const bool negative = !text.empty() && text[0] == '-';
  if (negative) text.remove_prefix(1);
  if (text.find('.') != std::string_view::npos) {
    while (text.ends_with('0')) text.remove_suffix(1);
  }
  Decimal decimal;
  bool point = false;
  for (const char c : text) {
    if (c == '.' && !point) {
      point = true;
    } else if (isdigit(static_cast<unsigned char>(c))) {
      const bool overflow = __builtin_mul_overflow(decimal.unscaled, Int128{10}, &decimal.unscaled) ||
                            __builtin_add_overflow(decimal.unscaled, Int128{c - '0'}, &decimal.unscaled);
      decimal.scale += point;
      if (overflow || !FitsDecimal(decimal.unscaled) || decimal.scale > kMaxDecimalDigits)
        return std::nullopt;
    } else {
      return std::nullopt;
    }
  }
  if (negative) decimal.unscaled = -decimal.unscaled;
  return decimal;
}

std::string ToString(const Decimal& decimal) {
  Int128 rest = decimal.unscaled < 0 ? -decimal.unscaled : decimal.unscaled;
  std::string digits;
  for (int i = 0; i <= decimal.scale || rest > 0; ++i, rest /= 10) {
    if (i == decimal.scale && i > 0) digits += '.';
    digits += static_cast<char>('0' + static_cast<int>(rest % 10));
  }
  if (decimal.unscaled < 0) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

bool Rescale(const Decimal& decimal, int scale, Int128* out) {
  if (scale > kMaxDecimalDigits) return false;
  return !__builtin_mul_overflow(decimal.unscaled, PowerOfTen(scale - decimal.scale), out) &&
         FitsDecimal(*out);
}

Int128 FloorOf(const Decimal& decimal, bool* exact) {
  const Int128 power = PowerOfTen(decimal.scale);
  *exact = decimal.unscaled % power == 0;
  return decimal.unscaled / power - (decimal.unscaled % power < 0);
}

std::optional<int64_t> RoundToInt64(const Decimal& decimal) {
  const Int128 power = PowerOfTen(decimal.scale);
  const Int128 half = decimal.scale == 0 ? 0 : power / 2;
  const Int128 value = (decimal.unscaled + (decimal.unscaled < 0 ? -half : half)) / power;
  if (value > INT64_MAX || value < INT64_MIN) return std::nullopt;
  return static_cast<int64_t>(value);
}

float ToFloat(const Decimal& decimal) { return Convert<float>(decimal, 24); }
double ToDouble(const Decimal& decimal) { return Convert<double>(decimal, 53); }

}  // namespace headrace::table
