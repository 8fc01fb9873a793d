#include "serve/cors.h"

#include <gtest/gtest.h>

namespace headrace::serve {
namespace {

std::string Said(const http::HttpResponse& response, std::string_view name) {
  for (const auto& [key, value] : response.headers)
    if (key == name) return value;
  return "";
}

TEST(Cors, OnlyWhoMay) {
  const auto cors = Cors::Make({"https://Example.org", "http://localhost:3000"});
  ASSERT_TRUE(cors.ok());
  EXPECT_TRUE(cors->Allows("https://example.org"));
  EXPECT_TRUE(cors->Allows("http://localhost:3000"));
  for (const char* other : {"", "null", "http://example.org", "https://example.org.evil.net",
                            "https://example.org:8443", "http://localhost"})
    EXPECT_FALSE(cors->Allows(other)) << other;
  EXPECT_FALSE(Cors().Allows("https://example.org"));
  for (const char* wrong : {"example.org", "https://", "https://example.org/", "https://*.example.org", ""})
    EXPECT_FALSE(Cors::Make({wrong}).ok()) << wrong;
}

TEST(Cors, AnswersNameTheOriginThatAsked) {
  const Cors some = *Cors::Make({"https://a.org", "https://b.org"}), any = *Cors::Make({"*"});
  http::HttpRequest request{.headers = {{"Origin", "https://b.org"}}};
  http::HttpResponse response;
  some.Tell(request, &response);
  EXPECT_EQ(Said(response, "Access-Control-Allow-Origin"), "https://b.org");
  EXPECT_EQ(Said(response, "Vary"), "Origin");
  EXPECT_NE(Said(response, "Access-Control-Expose-Headers").find("x-request-id"), std::string::npos);
  response = {};
  any.Tell(request, &response);
  EXPECT_EQ(Said(response, "Access-Control-Allow-Origin"), "*");
  request.headers[0].second = "https://c.org";
  response = {};
  some.Tell(request, &response);
  EXPECT_EQ(Said(response, "Access-Control-Allow-Origin"), "");
  EXPECT_EQ(Said(response, "Vary"), "Origin");  // a cache must not give it to a page that may
  response = {};
  Cors().Tell(request, &response);
  EXPECT_TRUE(response.headers.empty());
}

TEST(Cors, Preflights) {
  const Cors any = *Cors::Make({"*"});
  http::HttpRequest request{.headers = {{"Origin", "https://b.org"},
                                        {"Access-Control-Request-Method", "DELETE"},
                                        {"Access-Control-Request-Headers", "authorization, x-stainless-os"},
                                        {"Access-Control-Request-Private-Network", "true"}}};
  const auto told = any.Preflight(request, "GET, DELETE");
  EXPECT_EQ(told.status, 204);
  EXPECT_EQ(Said(told, "Access-Control-Allow-Methods"), "GET, DELETE");
  EXPECT_EQ(Said(told, "Access-Control-Allow-Headers"), "authorization, x-stainless-os");
  EXPECT_EQ(Said(told, "Access-Control-Allow-Private-Network"), "true");
  request.headers[2].second = "x\r\nSet-Cookie: a";
  EXPECT_EQ(Said(any.Preflight(request, "GET"), "Access-Control-Allow-Headers").find("Cookie"),
            std::string::npos);
  EXPECT_EQ(Said(Cors().Preflight(request, "GET"), "Access-Control-Allow-Methods"), "");
  EXPECT_EQ(Said(Cors().Preflight(request, "GET"), "Allow"), "GET, OPTIONS");
}

}  // namespace
}  // namespace headrace::serve
