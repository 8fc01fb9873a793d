#include "serve/routes.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "serve/server.h"

namespace headrace::serve {
namespace {

TEST(Routes, AreThoseOfTheDescription) {
  std::set<std::string> served, described;
  for (const Route& route : Routes()) {
    if (route.alias()) continue;
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(std::tolower(c));
    EXPECT_TRUE(served.insert(method + " " + route.path).second) << route.path << " is there twice";
  }
  const auto document = nlohmann::json::parse(OpenApiDocument());
  for (const auto& [path, operations] : document["paths"].items())
    for (const auto& [method, operation] : operations.items()) described.insert(method + " " + path);
  EXPECT_EQ(served, described);
}

TEST(Routes, AliasesNameARoute) {
  std::set<std::string> names;
  for (const Route& route : Routes())
    if (!route.alias()) names.insert(std::string(route.method) + " " + route.path);
  for (const Route& route : Routes())
    EXPECT_TRUE(names.contains(std::string(route.method) + " " + route.name)) << route.path;
}

TEST(Routes, EachIsFound) {
  for (const Route& route : Routes()) {
    std::string path = route.path;
    if (const size_t open = path.find('{'); open != std::string::npos)
      path.replace(open, path.find('}') + 1 - open, "x 1/z");
    const Match match = FindRoute(route.method, path);
    EXPECT_EQ(match.route, &route) << path;
    EXPECT_EQ(FindRoute("PATCH", path).route, nullptr);
    EXPECT_NE(FindRoute("PATCH", path).allowed.find(route.method), std::string::npos);
  }
}

TEST(Routes, WhatAStrangerAsksForMakesNoName) {
  EXPECT_EQ(FindRoute("GET", "/v1/models/a/b").rest, "a/b");
  EXPECT_STREQ(FindRoute("POST", "/v1/models/a/b").name, "/v1/models/{model}");
  EXPECT_EQ(FindRoute("POST", "/v1/models/a/b").allowed, "GET");
  for (const char* path : {"/v1/models/", "/v2", "", "//", "/v1/chat/completions/", "/metrics/x"}) {
    const Match match = FindRoute("GET", path);
    EXPECT_EQ(match.route, nullptr) << path;
    EXPECT_EQ(match.allowed, "") << path;
    EXPECT_STREQ(match.name, kUnknownRoute) << path;
  }
  EXPECT_NE(FindRoute("HEAD", "/health").route, nullptr);
  EXPECT_EQ(FindRoute("POST", "/v1/responses/compact").allowed, "");
  EXPECT_EQ(FindRoute("POST", "/v1/responses/resp_0a1").allowed, "GET, DELETE");
}

}  // namespace
}  // namespace headrace::serve
