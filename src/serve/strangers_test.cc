#include "serve/strangers.h"

#include "testing.h"

namespace headrace::serve {
namespace {

int Status(const std::vector<std::pair<std::string, std::string>>& headers, bool loopback = true,
           const std::string& method = "POST") {
  const auto cors = Cors::Make({"https://page.example"});
  EXPECT_TRUE(cors.ok());
  http::HttpRequest head;
  head.method = method;
  head.headers = headers;
  const auto fault = StrangerFault(head, {loopback, {"box.lan"}}, *cors);
  return fault ? fault->status : 200;
}

TEST(Strangers, Hosts) {
  for (const char* host : {"localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "a.localhost",
                           "192.168.1.5", "box.lan:80", ""})
    EXPECT_EQ(Status({{"Host", host}}), 200) << host;
  for (const char* host : {"evil.example", "evil.example:8000", "localhost.evil.example",
                           "127.0.0.1.evil.example", "127.evil.example", "x"}) {
    EXPECT_EQ(Status({{"Host", host}}), 403) << host;
    EXPECT_EQ(Status({{"Host", host}}, false), 200) << host;  // its names are whatever others call it
  }
}

TEST(Strangers, Origins) {
  const std::pair<std::string, std::string> here = {"Host", "localhost:8000"};
  for (const char* origin : {"http://localhost:8000", "http://localhost:5173", "http://127.0.0.1:3000",
                             "https://page.example", "app://obsidian.md"})
    EXPECT_EQ(Status({here, {"Origin", origin}}), 200) << origin;
  for (const char* origin :
       {"https://evil.example", "null", "http://page.example", "http://localhost.evil.example"}) {
    EXPECT_EQ(Status({here, {"Origin", origin}}), 403) << origin;
    EXPECT_EQ(Status({here, {"Origin", origin}}, true, "GET"), 403) << origin;
  }
  EXPECT_EQ(Status({{"Host", "api.lan"}, {"Origin", "http://api.lan"}}, false), 200);
  EXPECT_EQ(Status({{"Host", "api.lan"}, {"Origin", "http://localhost:3000"}}, false), 403);
  EXPECT_EQ(Status({here, {"Sec-Fetch-Site", "cross-site"}}), 403);
  EXPECT_EQ(Status({here, {"Sec-Fetch-Site", "same-origin"}}), 200);
  EXPECT_EQ(Status({here, {"Sec-Fetch-Site", "none"}}, true, "GET"), 200);  // typed into the address bar
}

TEST(Strangers, Bodies) {
  const std::pair<std::string, std::string> here = {"Host", "localhost:8000"};
  for (const char* type :
       {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"}) {
    EXPECT_EQ(Status({here, {"Content-Type", type}}), 200) << type;  // curl -d, and other programs
    EXPECT_EQ(Status({here, {"Content-Type", type}, {"Origin", "http://localhost:1"}}), 415) << type;
    EXPECT_EQ(Status({here, {"Content-Type", type}, {"Sec-Fetch-Site", "same-origin"}}), 415) << type;
  }
  EXPECT_EQ(
      Status({here, {"Content-Type", "application/json; charset=utf-8"}, {"Origin", "http://localhost:1"}}),
      200);
}

}  // namespace
}  // namespace headrace::serve
