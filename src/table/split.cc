#include "table/split.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/hash.h"

namespace headrace::table {
namespace {

constexpr size_t kMaxParts = 64;
constexpr int kShareDigits = 18;
constexpr int64_t kWhole = 1'000'000'000'000'000'000;  // 1 in units of a share
constexpr int64_t kRounding = 1'000'000'000;           // a billionth of it
constexpr uint64_t kPositions = uint64_t{1} << 53;

std::string_view Stripped(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  return begin == std::string_view::npos ? std::string_view()
                                         : text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

Status Wrong(std::string_view part, const std::string& what) {
  return Status::Invalid("the parts of a split are written 'train:0.9, test:0.1', and in '" +
                         std::string(part.substr(0, 80)) + "' " + what);
}

// In units of 10^-18.
Result<int64_t> ParseShare(std::string_view part, std::string_view text) {
  const auto share = ParseDecimal(text);
  const bool digits = text.find_first_of("0123456789") != std::string_view::npos;
  Int128 units = 0;
  if (!share || !digits) return Wrong(part, "the share is not a number such as 0.9");
  if (share->scale > kShareDigits)
    return Wrong(part, "the share has more than " + std::to_string(kShareDigits) + " digits");
  if (share->unscaled < 0) return Wrong(part, "the share is below 0");
  if (!Rescale(*share, kShareDigits, &units) || units > kWhole)
    return Wrong(part, "the share is more than 1");
  return static_cast<int64_t>(units);
}

}  // namespace

uint64_t SplitPosition(std::string_view key, uint64_t seed) { return Xxh3Seeded(key, seed) >> 11; }

Result<Split> Split::Parse(std::string_view text) {
  Split split;
  int64_t sum = 0;
  size_t last = 0;  // of the parts with a share
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    const std::string_view part = Stripped(text.substr(begin, comma - begin));
    begin = comma + 1;
    const size_t colon = part.rfind(':');
    if (colon == std::string_view::npos) return Wrong(part, "there is no name with a share");
    const std::string name(Stripped(part.substr(0, colon)));
    if (name.empty() || name.find_first_of(":'\"") != std::string::npos)
      return Wrong(part, "the name is empty, or has colons or quotes");
    for (const Part& other : split.parts_) {
      if (other.name == name) return Wrong(text, "two parts are called '" + name + "'");
    }
    if (split.parts_.size() == kMaxParts)
      return Status::Limit("a split has at most " + std::to_string(kMaxParts) + " parts");
    HEADRACE_ASSIGN(const int64_t share, ParseShare(part, Stripped(part.substr(colon + 1))));
    sum += share;
    if (sum > kWhole + kRounding)
      return Wrong(text, "the shares add up to more than 1: " + ToString(Decimal{sum, kShareDigits}));
    const Int128 positions = (Int128{sum} * kPositions + kWhole - 1) / kWhole;
    split.parts_.push_back({name, std::min(static_cast<uint64_t>(positions), kPositions)});
    if (share > 0) last = split.parts_.size() - 1;
  }
  if (sum >= kWhole - kRounding) {
    for (size_t i = last; i < split.parts_.size(); ++i) split.parts_[i].end = kPositions;
  }
  return split;
}

const std::string* Split::PartAt(uint64_t position) const {
  for (const Part& part : parts_) {
    if (position < part.end) return &part.name;
  }
  return nullptr;
}

std::string_view KeyTexts::OfInt(int64_t value) {
  char digits[24];
  text_.assign(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  return text_;
}

std::string_view KeyTexts::OfDecimal(Decimal value) {
  while (value.scale > 0 && value.unscaled % 10 == 0) {
    value.unscaled /= 10;
    --value.scale;
  }
  if (value.scale == 0 && value.unscaled >= INT64_MIN && value.unscaled <= INT64_MAX)
    return OfInt(static_cast<int64_t>(value.unscaled));
  text_ = ToString(value);
  return text_;
}

// Days since 1970 as a date of the Gregorian calendar, for all years
// (https://howardhinnant.github.io/date_algorithms.html, civil_from_days).
std::string_view KeyTexts::OfDate(int64_t days) {
  const int64_t shifted = days + 719'468;  // since 0000-03-01
  const int64_t era = (shifted >= 0 ? shifted : shifted - 146'096) / 146'097;
  const int64_t day_of_era = shifted - era * 146'097;
  const int64_t year_of_era =
      (day_of_era - day_of_era / 1'460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t from_march = (5 * day_of_year + 2) / 153;
  const int64_t month = from_march < 10 ? from_march + 3 : from_march - 9;
  const int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  char date[40];
  const int length =
      std::snprintf(date, sizeof date, "%04ld-%02ld-%02ld", static_cast<long>(year), static_cast<long>(month),
                    static_cast<long>(day_of_year - (153 * from_march + 2) / 5 + 1));
  text_.assign(date, static_cast<size_t>(length));
  return text_;
}

std::string_view KeyTexts::OfNanos(Int128 since_1970) { return OfDecimal({since_1970, 0}); }

}  // namespace headrace::table
