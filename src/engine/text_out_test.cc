// Whole characters, and no stop strings.
#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"
#include "engine/text_out.h"

namespace headrace::engine {
namespace {

TEST(TextOut, HoldsBackHalfCharactersAndHalfStops) {
  TextOut out({"STOP", "</end>"});
  EXPECT_EQ(out.Add("caf\xC3"), "caf");
  EXPECT_EQ(out.Add("\xA9 "), "\xC3\xA9 ");
  EXPECT_EQ(out.Add("ST"), "");
  EXPECT_EQ(out.Add("AR"), "STAR");
  EXPECT_EQ(out.Add("a</e"), "a");
  EXPECT_EQ(out.Add("nd>b"), "");
  EXPECT_TRUE(out.stopped());
  EXPECT_EQ(out.stop(), "</end>");
  TextOut turn({"STOP"}, {"<end>"});
  EXPECT_EQ(turn.Add("\"a<e", false), "\"a");
  EXPECT_EQ(turn.Add("nd>b", false), "<end>b");  // quoted: text like any other
  EXPECT_FALSE(turn.turn_ended());
  EXPECT_EQ(turn.Add("\" <end", true), "\" ");
  EXPECT_EQ(turn.Add("> more", true), "");
  EXPECT_TRUE(turn.turn_ended());
  EXPECT_FALSE(turn.stopped());
  EXPECT_EQ(turn.Add("more") + turn.Finish(), "");
  TextOut bad({});
  EXPECT_EQ(bad.Add("a\xFF\xC3"), "a\xEF\xBF\xBD");
  EXPECT_EQ(bad.Finish(), "\xEF\xBF\xBD");
  // However a text is cut into pieces, the same is shown.
  std::mt19937 random(1);
  const std::string whole = "x\xE2\x82\xAC y STO \xF0\x9F\x98\x80 STOz </en STOP never";
  for (int round = 0; round < 500; ++round) {
    TextOut cut({"STOP", "</end>"});
    std::string shown;
    for (size_t at = 0; at < whole.size() && !cut.stopped();) {
      const size_t n = std::min<size_t>(1 + random() % 5, whole.size() - at);
      const std::string piece = cut.Add(whole.substr(at, n));
      EXPECT_EQ(CleanUtf8(piece), piece);
      shown += piece;
      at += n;
    }
    EXPECT_EQ(shown, "x\xE2\x82\xAC y STO \xF0\x9F\x98\x80 STOz </en ");
  }
}

}  // namespace
}  // namespace headrace::engine
