#include "base/base64.h"

#include <gtest/gtest.h>

#include <random>

namespace headrace {
namespace {

// RFC 4648, section 10.
TEST(Base64, AsInTheRfc) {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(EncodeBase64(bytes), text);
    EXPECT_EQ(DecodeBase64(text), bytes);
  }
  EXPECT_EQ(DecodeBase64("Zm8"), "fo");  // without padding
}

TEST(Base64, BytesComeBack) {
  std::mt19937 random(1);
  for (size_t size = 0; size < 100; ++size) {
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    EXPECT_EQ(DecodeBase64(EncodeBase64(bytes)), bytes);
  }
}

TEST(Base64, WhatIsNone) {
  for (const char* text : {"Z", "Zm9vY", "Zm9*", "Zh==", "Zm9=", "=", "Zg==Zg==", "Zm9v\n", "Z-_v"})
    EXPECT_EQ(DecodeBase64(text), std::nullopt) << text;
}

}  // namespace
}  // namespace headrace
