#include "base/byte_size.h"

#include "testing.h"

namespace headrace {
namespace {

TEST(ByteSize, AsPeopleWriteThem) {
  const std::pair<const char*, int64_t> sizes[] = {{"0", 0},
                                                   {"4096", 4096},
                                                   {"7B", 7},
                                                   {"500MB", 500'000'000},
                                                   {"1.5 GiB", 1'610'612'736},
                                                   {"8g", 8'000'000'000},
                                                   {"8 G", 8'000'000'000},
                                                   {" 2kb ", 2'000},
                                                   {"1KiB", 1024},
                                                   {"3T", 3'000'000'000'000},
                                                   {".5k", 500},
                                                   {"2tib", int64_t{2} << 40}};
  for (const auto& [text, bytes] : sizes) {
    const auto size = ParseByteSize(text);
    ASSERT_TRUE(size.ok()) << text;
    EXPECT_EQ(*size, bytes) << text;
  }
  for (const char* text : {"", "GB", "-1", "-0", "1X", "1GBB", "1GiBi", "1KM", "1e3", "inf", "nan", "0x10",
                           "1IB", "9223372036854775808", "99999999T", "1,5GB", "12 apples"}) {
    EXPECT_TRUE(ParseByteSize(text).status().Is(Code::kInvalid)) << text;
  }
}

}  // namespace
}  // namespace headrace
