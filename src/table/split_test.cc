#include "table/split.h"

#include <random>

#include "table/table_testing.h"

namespace headrace::table {
namespace {

std::string Error(const std::string& text) {
  const auto split = Split::Parse(text);
  return split.ok() ? "" : split.status().ToString();
}

std::string PartAt(const Split& split, uint64_t position) {
  const std::string* part = split.PartAt(position);
  return part == nullptr ? "(none)" : *part;
}

constexpr uint64_t kPositions = uint64_t{1} << 53;

TEST(Split, ErrorsSayWhatIsWrong) {
  EXPECT_NE(Error("").find("no name with a share"), std::string::npos);
  EXPECT_NE(Error("train").find("no name with a share"), std::string::npos);
  EXPECT_NE(Error("train:0.9,").find("no name with a share"), std::string::npos);
  EXPECT_NE(Error(":0.9").find("the name is empty"), std::string::npos);
  EXPECT_NE(Error("it's:0.9").find("quotes"), std::string::npos);
  for (const char* share : {"", ".", "x", "1e-1", "0.5.5", "0x1", "- 0.5"})
    EXPECT_NE(Error(std::string("a:") + share).find("not a number such as 0.9"), std::string::npos) << share;
  EXPECT_NE(Error("a:-0.1").find("below 0"), std::string::npos);
  EXPECT_NE(Error("a:2").find("more than 1"), std::string::npos);
  EXPECT_NE(Error("a:0.9, a:0.1").find("two parts are called 'a'"), std::string::npos);
  EXPECT_NE(Error("a:0.6, b:0.5").find("add up to more than 1: 1.1"), std::string::npos);
  EXPECT_NE(Error("a:0.1234567890123456789").find("more than 18 digits"), std::string::npos);
  std::string many = "p0:0";
  for (int i = 1; i < 64; ++i) many += ", p" + std::to_string(i) + ":0.01";
  EXPECT_EQ(Error(many), "");
  EXPECT_NE(Error(many + ", more:0.01").find("at most 64 parts"), std::string::npos);
  EXPECT_EQ(Error("a:0.10000000000000000000000000"), "");  // digits that carry nothing
  EXPECT_EQ(Error(" a : 1 , b:0 , c d:.0"), "");
}

TEST(Split, PartsEndWhereTheirSharesAddUp) {
  ASSERT_VALUE(const Split split, Split::Parse("train:0.5, none:0, val:0.25, test:0.125"));
  for (const auto& [end, before, after] :
       std::vector<std::tuple<uint64_t, std::string, std::string>>{{kPositions / 2, "train", "val"},
                                                                   {kPositions / 4 * 3, "val", "test"},
                                                                   {kPositions / 8 * 7, "test", "(none)"}}) {
    EXPECT_EQ(PartAt(split, end - 1), before);
    EXPECT_EQ(PartAt(split, end), after);
  }
  EXPECT_EQ(PartAt(split, 0), "train");
  EXPECT_EQ(PartAt(split, kPositions - 1), "(none)");
}

TEST(Split, SharesThatAreRoundedLeaveNothingOut) {
  for (const char* text : {"a:0.333333333, b:0.333333333, c:0.333333333", "a:0.4, b:0.5, c:0.100000001, d:0",
                           "a:0.3, b:0.3, c:0.4"}) {
    ASSERT_VALUE(const Split split, Split::Parse(text));
    EXPECT_EQ(PartAt(split, kPositions - 1), "c") << text;
  }
  ASSERT_VALUE(const Split less, Split::Parse("a:0.333, b:0.333, c:0.333"));
  EXPECT_EQ(PartAt(less, kPositions - 1), "(none)");
}

// Rows stay where they are for ever: these numbers are those of the xxhash package for Python (4.1.0), and no
// release may give others.
TEST(Split, PositionsNeverChange) {
  EXPECT_EQ(SplitPosition("", 0), 1'584'190'108'146'290U);
  EXPECT_EQ(SplitPosition("42", 0), 636'588'863'790'564U);
  EXPECT_EQ(SplitPosition("photos/0001.jpg", 0), 1'842'055'270'828'810U);
  EXPECT_EQ(SplitPosition("photos/0001.jpg", 7), 4'689'474'366'656'536U);
  EXPECT_EQ(SplitPosition("2026-11-22", INT64_MAX), 1'875'659'920'748'726U);
  EXPECT_EQ(SplitPosition(std::string(300, 'x'), 3), 7'089'406'242'658'237U);
  EXPECT_EQ(SplitFraction(kPositions / 4 * 3), 0.75);
}

// A part that is named first and grows keeps all that it had.
TEST(Split, GrowingTheFirstPartTakesFromTheOthersOnly) {
  std::mt19937_64 random(3);
  ASSERT_VALUE(const Split before, Split::Parse("train:0.8, test:0.2"));
  ASSERT_VALUE(const Split after, Split::Parse("train:0.85, test:0.15"));
  for (int i = 0; i < 10'000; ++i) {
    const uint64_t position = random() >> 11;
    if (PartAt(before, position) == "train") {
      ASSERT_EQ(PartAt(after, position), "train");
    }
  }
}

TEST(Split, TextsOfKeys) {
  KeyTexts key;
  EXPECT_EQ(key.OfInt(INT64_MIN), "-9223372036854775808");
  EXPECT_EQ(key.OfDecimal({Int128{UINT64_MAX}, 0}), "18446744073709551615");
  EXPECT_EQ(key.OfDecimal({1500, 3}), "1.5");
  EXPECT_EQ(key.OfDecimal({-20, 1}), "-2");
  EXPECT_EQ(key.OfDecimal({0, 5}), "0");
  EXPECT_EQ(key.OfDecimal({-5, 2}), "-0.05");
  EXPECT_EQ(key.OfDecimal({100, 0}), "100");
  EXPECT_EQ(key.OfDate(0), "1970-01-01");
  EXPECT_EQ(key.OfDate(-1), "1969-12-31");
  EXPECT_EQ(key.OfDate(20'779), "2026-11-22");
  EXPECT_EQ(key.OfDate(11'016), "2000-02-29");
  EXPECT_EQ(key.OfDate(-719'528), "0000-01-01");
  EXPECT_EQ(key.OfDate(2'932'897), "10000-01-01");
  EXPECT_EQ(key.OfNanos(Int128{INT64_MAX} * 1000), "9223372036854775807000");
}

}  // namespace
}  // namespace headrace::table
