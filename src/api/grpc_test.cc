#include "api/grpc.h"

#include "testing.h"

namespace headrace::api {
namespace {

using std::string_literals::operator""s;

TEST(Grpc, MessagesWithTheirLength) {
  EXPECT_EQ(GrpcFrame("abc"), "\0\0\0\0\3abc"s);
  EXPECT_EQ(GrpcFrame(std::string(0x10203, 'x')).substr(0, 6), "\0\0\1\2\3x"s);
  const std::string plain = "\0\0\0\0\3abc"s, packed = "\1\0\0\0\0"s;
  ASSERT_VALUE(GrpcMessage message, ReadGrpcMessage(plain));
  EXPECT_FALSE(message.packed);
  EXPECT_EQ(message.bytes, "abc");
  ASSERT_VALUE(message, ReadGrpcMessage(packed));
  EXPECT_TRUE(message.packed && message.bytes.empty());
  EXPECT_TRUE(ReadGrpcMessage("").status().Is(Code::kUnsupported));
  EXPECT_TRUE(ReadGrpcMessage("\0\0\0\0\1ab"s).status().Is(Code::kUnsupported));
  for (const std::string& bad : {"\0"s, "\0\0\0\0"s, "\0\0\0\0\2a"s, "\0\xff\xff\xff\xff\1"s, "\2\0\0\0\0"s})
    EXPECT_TRUE(ReadGrpcMessage(bad).status().Is(Code::kInvalid)) << bad;
}

TEST(Grpc, Timeouts) {
  EXPECT_EQ(GrpcTimeout("10S"), 10);
  EXPECT_EQ(GrpcTimeout("2H"), 7200);
  EXPECT_EQ(GrpcTimeout("3M"), 180);
  EXPECT_EQ(GrpcTimeout("250m"), 0.25);
  EXPECT_EQ(GrpcTimeout("5u"), 5e-6);
  EXPECT_EQ(GrpcTimeout("99999999n"), 0.099999999);
  for (const char* bad : {"", "S", "10", "-1S", "1.5S", "1s", "123456789S", " 1S", "1SS"})
    EXPECT_FALSE(GrpcTimeout(bad)) << bad;
}

TEST(Grpc, TextsAndStatuses) {
  EXPECT_EQ(GrpcText("a b~"), "a b~");
  EXPECT_EQ(GrpcText("100 %\n\xc3\xa9"), "100 %25%0A%C3%A9");
  EXPECT_LE(GrpcText(std::string(5000, '\n')).size(), 1024U);
  // From google/rpc/status.proto and error_details.proto by hand.
  const std::string info = "\x0a\x02\x08\x05";
  EXPECT_EQ(GrpcRetryInfo(5), info);
  const std::string name = "type.googleapis.com/google.rpc.RetryInfo";
  EXPECT_EQ(GrpcStatus(GrpcCode::kUnavailable, "no", 5),
            "\x08\x0e\x12\x02no\x1a"s + static_cast<char>(2 + name.size() + 2 + info.size()) + "\x0a" +
                static_cast<char>(name.size()) + name + "\x12" + static_cast<char>(info.size()) + info);
  EXPECT_EQ(GrpcStatus(GrpcCode::kInternal, "no"), "\x08\x0d\x12\x02no");
}

}  // namespace
}  // namespace headrace::api
