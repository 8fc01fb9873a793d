#include "base/duration.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string>

namespace headrace {
namespace {

struct Unit {
  int64_t micros;
  std::string_view shown, many;  // "day", "days"
  std::array<std::string_view, 5> written;
};
constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kDay = 86'400 * kSecond;
constexpr Unit kUnits[] = {
    {365 * kDay, "year", "years", {"y", "year", "years", "yr", "yrs"}},
    {7 * kDay, "week", "weeks", {"w", "week", "weeks", "wk", "wks"}},
    {kDay, "day", "days", {"d", "day", "days", "", ""}},
    {3600 * kSecond, "hour", "hours", {"h", "hour", "hours", "hr", "hrs"}},
    {60 * kSecond, "minute", "minutes", {"m", "min", "mins", "minute", "minutes"}},
    {kSecond, "s", "s", {"s", "sec", "secs", "second", "seconds"}},
    {1000, "ms", "ms", {"ms", "millisecond", "milliseconds", "", ""}},
    {1, "us", "us", {"us", "microsecond", "microseconds", "", ""}},
};
constexpr double kMostMicros = 10'000.0 * 365 * 86'400e6;

}  // namespace

Result<int64_t> ParseDuration(std::string_view text) {
  const auto invalid = [&] {
    return Status::Invalid("'" + std::string(text) + "' is not a length of time; write 30d, 12h, 90s or 2w");
  };
  std::string_view rest = text;
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  while (!rest.empty() && rest.back() == ' ') rest.remove_suffix(1);
  double number = 0;
  const auto [end, error] =
      std::from_chars(rest.data(), rest.data() + rest.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || std::signbit(number)) return invalid();
  rest.remove_prefix(static_cast<size_t>(end - rest.data()));
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  if (rest.empty() && number == 0) return int64_t{0};
  if (rest.empty()) return invalid();
  for (const auto& unit : kUnits) {
    for (const auto& written : unit.written) {
      if (rest != written) continue;
      const double micros = number * static_cast<double>(unit.micros);
      if (micros > kMostMicros) return invalid();
      return static_cast<int64_t>(std::llround(micros));
    }
  }
  return invalid();
}

std::string FormatDuration(int64_t micros) {
  if (micros == 0) return "0 s";
  for (const auto& unit : kUnits) {
    if (micros < unit.micros) continue;
    // Whole thousandths, or a smaller unit tells it better.
    const int64_t thousandths = micros / unit.micros * 1000 + micros % unit.micros * 1000 / unit.micros;
    if (unit.micros >= 1000 && (micros % unit.micros) * 1000 % unit.micros != 0) continue;
    if (unit.micros > kSecond && thousandths % 500 != 0) continue;
    std::string number = std::to_string(thousandths / 1000);
    if (thousandths % 1000 != 0) {
      const std::string rest = std::to_string(1000 + thousandths % 1000).substr(1);
      number += "." + rest.substr(0, rest.find_last_not_of('0') + 1);
    }
    return number + " " + std::string(thousandths == 1000 ? unit.shown : unit.many);
  }
  return std::to_string(micros) + " us";
}

}  // namespace headrace
