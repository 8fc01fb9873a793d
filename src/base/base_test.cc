#include "base/base.h"

#include "testing.h"

namespace headrace {
namespace {

TEST(Clock, ReadsBackWhatItWrites) {
  for (const int64_t micros : {int64_t{0}, int64_t{-1}, int64_t{951782400000000}, NowMicros()}) {
    ASSERT_VALUE(const int64_t back, ParseMicros(FormatMicros(micros)));
    EXPECT_EQ(back, micros) << FormatMicros(micros);
  }
  ASSERT_VALUE(const int64_t zoned, ParseMicros("1970-01-01T01:00:00+01:00"));
  EXPECT_EQ(zoned, 0);
  for (const char* bad : {"", "2026", "2026-13-01", "2026-02-30", "2025-02-29", "2026-01-01T24:00",
                          "2026-01-01x", "2026-01-01T00:00:00."}) {
    EXPECT_FALSE(ParseMicros(bad).ok()) << bad;
  }
}

TEST(Status, KeepsItsCauses) {
  const Status status = Status::NotFound("no file").Wrap("cannot open the table").Wrap("head");
  EXPECT_EQ(status.ToString(), "head: cannot open the table: no file");
  EXPECT_TRUE(status.Is(Code::kNotFound));
}

TEST(Uuid, ReadsBackAndRefuses) {
  const Uuid id = Uuid::Random();
  ASSERT_VALUE(const Uuid back, Uuid::Parse(id.ToString()));
  EXPECT_EQ(back, id);
  EXPECT_FALSE(Uuid::Parse("xyz").ok());
  EXPECT_FALSE(Uuid::Parse(std::string(32, 'g')).ok());
}

TEST(TaskPool, FinishesWhatWasSubmitted) {
  std::atomic<int> done{0};
  {
    TaskPool pool(3);
    for (int i = 0; i < 1000; ++i) pool.Submit([&] { ++done; });
  }
  EXPECT_EQ(done, 1000);
}

}  // namespace
}  // namespace headrace
