// The description of the API says what the parsers take: each number of each body, at both ends of its range
// and one step beyond.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "api/call.h"
#include "api/fields.h"
#include "serve/server.h"

namespace headrace::serve {
namespace {

using api::Json;
using Parse = std::function<std::optional<api::Fault>(const std::string&)>;

Parse Speaking(api::Dialect dialect) {
  return [dialect](const std::string& body) {
    api::Call call;
    return api::ParseCall(dialect, body, &call);
  };
}

template <class Call>
Parse By(std::optional<api::Fault> (*parse)(std::string_view, Call*)) {
  return [parse](const std::string& body) {
    Call call;
    return parse(body, &call);
  };
}

const Json& Schemas() {
  static const Json document = Json::parse(OpenApiDocument());
  return document["components"]["schemas"];
}

const Json& Resolved(const Json& schema) {
  if (!schema.contains("$ref")) return schema;
  const std::string name = schema["$ref"];
  return Schemas()[name.substr(name.rfind('/') + 1)];
}

// The properties of a schema and of those that it is made of.
void Collect(const Json& schema, std::map<std::string, Json>* properties) {
  const Json parts = schema.value("allOf", Json::array()), own = schema.value("properties", Json::object());
  for (const Json& part : parts) Collect(Resolved(part), properties);
  for (const auto& [name, property] : own.items()) (*properties)[name] = Resolved(property);
}

void ExpectTaken(const Parse& parse, Json body, const std::string& name, const Json& value, bool taken) {
  body[name] = value;
  const auto fault = parse(body.dump());
  EXPECT_EQ(!fault, taken) << name << " = " << value << (fault ? ": " + fault->message : "");
  if (fault) {
    EXPECT_EQ(fault->param, name);
  }
}

// How many numbers were tried.
int CheckRanges(const Json& schema, const Parse& parse, const Json& body) {
  std::map<std::string, Json> properties;
  Collect(schema, &properties);
  int tried = 0;
  for (const auto& [name, property] : properties) {
    if (!property.contains("minimum") || property["type"].is_array()) continue;
    EXPECT_TRUE(property.contains("maximum")) << name;
    const bool whole = property["type"] == "integer";
    ExpectTaken(parse, body, name, property["minimum"], true);
    ExpectTaken(parse, body, name, property["maximum"], true);
    ++tried;
    const double least = property["minimum"], most = property["maximum"], step = whole ? 1 : 1e-4;
    if (most > 9e15) continue;  // all that an integer holds
    // -1 and -2 are clients' words for "as many as there are".
    const bool has_words = whole && (name.find("max") == 0 || name == "n_predict");
    if (!has_words)
      ExpectTaken(parse, body, name, whole ? Json(int64_t(least) - 1) : Json(least - step), false);
    ExpectTaken(parse, body, name, whole ? Json(int64_t(most) + 1) : Json(most + step), false);
  }
  return tried;
}

TEST(OpenApi, RangesAreTheParsers) {
  const Json message = Json::parse(R"([{"role": "user", "content": "x"}])");
  int tried = 0;
  tried += CheckRanges(Schemas()["ChatRequest"], Speaking(api::Dialect::kChat),
                       {{"messages", message}, {"logprobs", true}});
  tried +=
      CheckRanges(Schemas()["CompletionRequest"], Speaking(api::Dialect::kCompletions), {{"prompt", "x"}});
  tried += CheckRanges(Schemas()["ResponseRequest"], Speaking(api::Dialect::kResponses), {{"input", "x"}});
  tried += CheckRanges(Schemas()["MessageRequest"], Speaking(api::Dialect::kMessages),
                       {{"model", "m"}, {"max_tokens", 5}, {"messages", message}});
  tried += CheckRanges(Schemas()["EmbeddingRequest"], By(&api::ParseEmbeddings), {{"input", "x"}});
  tried += CheckRanges(Schemas()["RerankRequest"], By(&api::ParseRerank),
                       {{"query", "x"}, {"documents", Json::array({"x"})}});
  const Json document = Json::parse(OpenApiDocument());
  tried += CheckRanges(
      document["paths"]["/completion"]["post"]["requestBody"]["content"]["application/json"]["schema"],
      Speaking(api::Dialect::kNative), {{"prompt", "x"}});
  EXPECT_GT(tried, 30);
}

}  // namespace
}  // namespace headrace::serve
