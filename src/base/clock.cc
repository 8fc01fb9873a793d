#include "base/clock.h"

#include <chrono>
#include <cstdio>

namespace headrace {
namespace {

// Days since 1970-01-01 of a proleptic Gregorian date; see "chrono-Compatible Low-Level Date Algorithms"
// (Hinnant).
int64_t DaysFromCivil(int64_t y, int64_t m, int64_t d) {
  y -= m <= 2;
  const int64_t era = (y >= 0 ? y : y - 399) / 400;
  const int64_t yoe = y - era * 400;
  const int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
  const int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146097 + doe - 719468;
}

class Digits {
 public:
  explicit Digits(std::string_view text) : text_(text) {}
  bool Number(int width, int64_t* out) {
    *out = 0;
    for (int i = 0; i < width; ++i, ++at_) {
      if (at_ >= text_.size() || text_[at_] < '0' || text_[at_] > '9') return false;
      *out = *out * 10 + (text_[at_] - '0');
    }
    return true;
  }
  bool Literal(std::string_view any) {
    if (at_ >= text_.size() || any.find(text_[at_]) == std::string_view::npos) return false;
    ++at_;
    return true;
  }
  bool AtDigit() const { return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Done() const { return at_ == text_.size(); }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

int64_t NowMicros() {
  using std::chrono::system_clock;
  return std::chrono::duration_cast<std::chrono::microseconds>(system_clock::now().time_since_epoch())
      .count();
}

double MonotonicSeconds() {
  using std::chrono::steady_clock;
  return std::chrono::duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::string FormatMicros(int64_t micros) {
  int64_t days = micros / 86'400'000'000;
  int64_t rest = micros % 86'400'000'000;
  if (rest < 0) {
    rest += 86'400'000'000;
    --days;
  }
  const int64_t z = days + 719468;
  const int64_t era = (z >= 0 ? z : z - 146096) / 146097;
  const int64_t doe = z - era * 146097;
  const int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const int64_t mp = (5 * doy + 2) / 153;
  const int64_t day = doy - (153 * mp + 2) / 5 + 1;
  const int64_t month = mp + (mp < 10 ? 3 : -9);
  const int64_t year = yoe + era * 400 + (month <= 2);
  char text[64];
  std::snprintf(text, sizeof text, "%04ld-%02ld-%02ldT%02ld:%02ld:%02ld.%06ldZ", static_cast<long>(year),
                static_cast<long>(month), static_cast<long>(day), static_cast<long>(rest / 3'600'000'000),
                static_cast<long>(rest / 60'000'000 % 60), static_cast<long>(rest / 1'000'000 % 60),
                static_cast<long>(rest % 1'000'000));
  return text;
}

Result<int64_t> ParseMicros(std::string_view text) {
  const Status bad = Status::Invalid("'" + std::string(text) +
                                     "' is not a time; write it as 2026-11-22 or 2026-11-22T08:15:30Z");
  Digits in(text);
  int64_t y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0, frac = 0;
  if (!in.Number(4, &y) || !in.Literal("-") || !in.Number(2, &mo) || !in.Literal("-") || !in.Number(2, &d))
    return bad;
  static constexpr int kDays[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (mo < 1 || mo > 12 || d < 1 || d > kDays[mo - 1]) return bad;
  if (mo == 2 && d == 29 && (y % 4 != 0 || (y % 100 == 0 && y % 400 != 0))) return bad;
  if (!in.Done()) {
    if (!in.Literal("T ") || !in.Number(2, &h) || !in.Literal(":") || !in.Number(2, &mi)) return bad;
    if (in.Literal(":") && !in.Number(2, &s)) return bad;
    if (in.Literal(".")) {
      int64_t digit = 0;
      int64_t unit = 100'000;
      if (!in.AtDigit()) return bad;
      while (in.AtDigit() && in.Number(1, &digit)) {
        frac += digit * unit;
        unit /= 10;
      }
    }
    if (h > 23 || mi > 59 || s > 59) return bad;
  }
  int64_t zone_minutes = 0;
  if (!in.Done() && !in.Literal("Zz")) {
    const int64_t sign = in.Peek() == '-' ? -1 : 1;
    int64_t zh = 0, zm = 0;
    if (!in.Literal("+-") || !in.Number(2, &zh)) return bad;
    if (!in.Done() && ((in.Peek() == ':' && !in.Literal(":")) || !in.Number(2, &zm))) return bad;
    zone_minutes = sign * (zh * 60 + zm);
  }
  if (!in.Done()) return bad;
  const int64_t seconds = DaysFromCivil(y, mo, d) * 86'400 + h * 3'600 + mi * 60 + s - zone_minutes * 60;
  return seconds * 1'000'000 + frac;
}

}  // namespace headrace
