#include "ingest/exact_numbers.h"

#include <cmath>
#include <cstdlib>
#include <limits>

namespace headrace::ingest {
namespace {

constexpr size_t kSurelyExact = 15;  // digits that every float64 gives back, where it is not denormal
constexpr int64_t kSurelyNormal = 290;
constexpr size_t kMaxDigits = 800;  // no float64 has more

// A decimal number's significant digits, from the first to the last that is not 0, point included.
struct Decimal {
  std::string_view digits;
  int64_t power = 0;  // of ten, of the first digit
};

// False if it is no number.
bool Split(std::string_view text, Decimal* out) {
  size_t at = !text.empty() && text[0] == '-' ? 1 : 0;
  const size_t begin = at;
  size_t first = std::string_view::npos, last = 0, point = std::string_view::npos, count = 0;
  for (; at < text.size() && (IsDigit(text[at]) || text[at] == '.'); ++at) {
    if (text[at] == '.') {
      if (point != std::string_view::npos) return false;
      point = at;
      continue;
    }
    ++count;
    if (text[at] == '0') continue;
    if (first == std::string_view::npos) first = at;
    last = at;
  }
  if (count == 0) return false;
  if (text[begin] == '0' && begin + 1 < at && text[begin + 1] != '.') return false;
  if (point == std::string_view::npos) point = at;
  int64_t exponent = 0;
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    if (at < text.size() && text[at] == '+') {
      ++at;
      if (at < text.size() && !IsDigit(text[at])) return false;
    }
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), exponent);
    if (error == std::errc::invalid_argument) return false;
    if (error == std::errc::result_out_of_range) exponent = text[at] == '-' ? -1'000'000 : 1'000'000;
    at = static_cast<size_t>(end - text.data());
  }
  if (at != text.size()) return false;
  if (first == std::string_view::npos) return true;  // zero
  out->digits = text.substr(first, last + 1 - first);
  out->power = exponent + static_cast<int64_t>(point) - static_cast<int64_t>(first) - (first < point ? 1 : 0);
  return true;
}

std::string WithoutPoint(std::string_view digits) {
  std::string out;
  for (const char c : digits) {
    if (c != '.') out += c;
  }
  return out;
}

// The digits of a number as to_chars writes it: "1.25e-07" → "125".
std::string DigitsOf(const char* begin, const char* end) {
  std::string out;
  for (; begin != end && *begin != 'e'; ++begin) {
    if (IsDigit(*begin)) out += *begin;
  }
  out.resize(out.find_last_not_of('0') + 1);
  return out;
}

// An integer is one to its last digit: 10^30 has one digit of its own, and no float64 is that number.
bool IsExactInteger(std::string_view text) {
  if (text[0] == '-') text.remove_prefix(1);
  if (text.size() > kMaxDigits) return false;
  const double value = DoubleOf(text);
  if (!std::isfinite(value)) return false;
  char printed[kMaxDigits];
  const auto done = std::to_chars(printed, printed + sizeof printed, value, std::chars_format::fixed, 0);
  return std::string_view(printed, static_cast<size_t>(done.ptr - printed)) == text;
}

}  // namespace

bool IsExactDouble(std::string_view text) {
  Decimal decimal;
  if (!Split(text, &decimal)) return false;
  if (decimal.digits.empty()) return true;
  if (text.size() > kSurelyExact && text.find_first_of(".eE") == std::string_view::npos)
    return IsExactInteger(text);
  if (decimal.digits.size() <= kSurelyExact && std::abs(decimal.power) < kSurelyNormal) return true;
  const std::string digits = WithoutPoint(decimal.digits);
  if (digits.size() > kMaxDigits) return false;
  const double value = std::fabs(DoubleOf(text));
  if (!std::isfinite(value) || value == 0) return false;
  char printed[kMaxDigits + 32];
  // The shortest form first: it is what most programs write.
  auto done = std::to_chars(printed, printed + sizeof printed, value, std::chars_format::scientific);
  if (DigitsOf(printed, done.ptr) == digits) return true;
  done = std::to_chars(printed, printed + sizeof printed, value, std::chars_format::scientific,
                       static_cast<int>(digits.size()) - 1);
  return DigitsOf(printed, done.ptr) == digits;
}

double DoubleOf(std::string_view text) {
  if (text == "NaN" || text == "nan") return std::numeric_limits<double>::quiet_NaN();
  const bool negative = text.starts_with('-');
  const std::string_view size = negative ? text.substr(1) : text;
  if (size == "Infinity" || size == "inf") {
    return negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return std::numeric_limits<double>::infinity();
  return value;
}

}  // namespace headrace::ingest
