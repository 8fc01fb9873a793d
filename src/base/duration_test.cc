#include "base/duration.h"

#include <random>

#include "testing.h"

namespace headrace {
namespace {

constexpr int64_t kSecond = 1'000'000;

TEST(Duration, AsPeopleWriteThem) {
  const std::pair<const char*, int64_t> cases[] = {{"30d", 30 * 86'400 * kSecond},
                                                   {"12h", 12 * 3600 * kSecond},
                                                   {"90s", 90 * kSecond},
                                                   {"2w", 14 * 86'400 * kSecond},
                                                   {"1.5h", 5400 * kSecond},
                                                   {"30 days", 30 * 86'400 * kSecond},
                                                   {" 5 min ", 300 * kSecond},
                                                   {"5m", 300 * kSecond},
                                                   {"1y", 365 * 86'400 * kSecond},
                                                   {"250ms", 250'000},
                                                   {"7us", 7},
                                                   {"0", 0},
                                                   {"0s", 0}};
  for (const auto& [text, micros] : cases) {
    ASSERT_VALUE(const int64_t parsed, ParseDuration(text));
    EXPECT_EQ(parsed, micros) << text;
  }
  for (const char* text : {"", "d", "30", "-1d", "-0s", "1e3s", "nan", "inf d", "1 d 2 h", "1month", "1D",
                           "0x1s", "99999y", "1,5h", "1s\n"}) {
    const auto parsed = ParseDuration(text);
    EXPECT_TRUE(parsed.status().Is(Code::kInvalid)) << text;
  }
}

TEST(Duration, AsTheyAreShown) {
  EXPECT_EQ(FormatDuration(30 * 86'400 * kSecond), "30 days");
  EXPECT_EQ(FormatDuration(7 * 86'400 * kSecond), "1 week");
  EXPECT_EQ(FormatDuration(3600 * kSecond), "1 hour");
  EXPECT_EQ(FormatDuration(36 * 3600 * kSecond), "1.5 days");
  EXPECT_EQ(FormatDuration(90 * kSecond), "1.5 minutes");
  EXPECT_EQ(FormatDuration(91 * kSecond), "91 s");
  EXPECT_EQ(FormatDuration(0), "0 s");
  EXPECT_EQ(FormatDuration(1), "1 us");
}

TEST(Duration, WhatIsShownIsReadBack) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {  // up to 17 years: a double is exact
    const auto micros = static_cast<int64_t>(random() >> (15 + random() % 49));
    const std::string shown = FormatDuration(micros);
    ASSERT_VALUE(const int64_t back, ParseDuration(shown));
    EXPECT_EQ(back, micros) << shown;
  }
}

}  // namespace
}  // namespace headrace
