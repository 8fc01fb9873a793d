// Exact decimal numbers of up to 38 digits, as DuckDB's DECIMAL: what a literal such as 0.1 is in a filter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace headrace::table {

using Int128 = __int128;

inline constexpr int kMaxDecimalDigits = 38;

struct Decimal {
  Int128 unscaled = 0;
  int scale = 0;  // digits after the point
};

// 10^exponent; exponent in [0, 38].
Int128 PowerOfTen(int exponent);
// False where it has more than 38 digits.
bool FitsDecimal(Int128 unscaled);

// "-12.50" gives 12.5: zeros at the end of the fraction carry nothing. Nothing if it is not digits with at
// most one point, or has more than 38 digits.
std::optional<Decimal> ParseDecimal(std::string_view text);
std::string ToString(const Decimal& decimal);

// The same number with a scale that is no smaller; false if that needs more than 38 digits.
bool Rescale(const Decimal& decimal, int scale, Int128* out);
// Rounded down; `*exact` says whether nothing was cut off.
Int128 FloorOf(const Decimal& decimal, bool* exact);
// The nearest integer, halves away from zero; nothing beyond 64 bits.
std::optional<int64_t> RoundToInt64(const Decimal& decimal);

// As DuckDB converts: in the arithmetic of the target, so that the last bit is the same.
float ToFloat(const Decimal& decimal);
double ToDouble(const Decimal& decimal);

}  // namespace headrace::table
