// For tests of what a field of a body may not be: a good body, and what is set at which of its places.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/call.h"
#include "api/fields.h"

namespace headrace::api {

// Reads a body; the fault where there is one.
using Parse = std::function<std::optional<Fault>(std::string_view)>;

struct Wrong {
  const char* place;            // a JSON pointer into the body: what is set there
  const char* value;            // as JSON; "-": the place is removed
  const char* param = nullptr;  // where it is not the place's own path
};

// "/messages/0/content" as messages[0].content
inline std::string PathOf(std::string_view pointer) {
  std::string path;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const size_t end = std::min(pointer.find('/'), pointer.size());
    const std::string_view part = pointer.substr(0, end);
    const bool index = !path.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
    if (index) path += "[" + std::string(part) + "]";
    if (!index) path += (path.empty() ? "" : ".") + std::string(part);
    pointer.remove_prefix(end);
  }
  return path;
}

// `body` is taken; with each of `wrongs` it is refused, and both shapes of the error name the place.
inline void ExpectRefused(const char* api, const Parse& parse, const char* body,
                          const std::vector<Wrong>& wrongs) {
  const Json good = Json::parse(body);
  const auto none = parse(good.dump());
  ASSERT_FALSE(none) << api << ": " << none->param << " " << none->message;
  for (const Wrong& wrong : wrongs) {
    Json bad = good;
    const Json::json_pointer place(wrong.place);
    if (std::string_view(wrong.value) == "-") {
      bad[place.parent_pointer()].erase(place.back());
    } else {
      bad[place] = Json::parse(wrong.value);
    }
    const auto fault = parse(bad.dump());
    const std::string what = std::string(api) + " " + wrong.place + " = " + wrong.value;
    ASSERT_TRUE(fault) << what << " was taken";
    EXPECT_EQ(fault->status, 400) << what;
    const std::string param = wrong.param != nullptr ? wrong.param : PathOf(wrong.place);
    EXPECT_EQ(fault->param, param) << what << ": " << fault->message;
    // Each API's own shape of it.
    EXPECT_EQ(Json::parse(OpenAiError(*fault))["error"]["param"], param);
    EXPECT_EQ(Json::parse(OpenAiError(*fault))["error"]["type"], "invalid_request_error");
    const Json anthropic = Json::parse(AnthropicError(*fault, "r"));
    EXPECT_EQ(anthropic["type"], "error");
    EXPECT_EQ(anthropic["error"]["type"], "invalid_request_error");
    EXPECT_EQ(anthropic["error"]["message"].get<std::string>().rfind(param + ": ", 0), 0U);
  }
}

}  // namespace headrace::api
