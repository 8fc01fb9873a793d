// Grammars over a vocabulary of bytes, so that what they allow is seen without a model.
#include "engine/grammar.h"

#include <gtest/gtest.h>

#include "engine/host_cache.h"
#include "engine/text_out.h"

namespace headrace::engine {
namespace {

constexpr Token kEnd = 256;

Grammars OfBytes(std::shared_ptr<HostCache> host = nullptr) {
  std::vector<std::string> pieces;
  for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
  pieces.emplace_back("");
  return Grammars(std::move(pieces), {kEnd}, std::move(host));
}

Result<std::shared_ptr<const CompiledGrammar>> Compile(Structure::Kind kind, const std::string& text) {
  return OfBytes().Compile({kind, text});
}

// Takes a text byte by byte as an answer is taken; where it ends by the end of a turn, what was shown.
std::string Until(Matcher* matcher, const std::string& text) {
  TextOut out({}, {"<|im_end|>"});
  std::string shown;
  for (const char c : text) {
    EXPECT_TRUE(matcher->Accept(static_cast<unsigned char>(c))) << shown << " then " << c;
    // The rule that the ends of turns stand on: they count where an end token may come.
    const bool end = matcher->Allows(kEnd);
    EXPECT_EQ(matcher->may_end(), end) << shown << c;
    shown += out.Add(std::string_view(&c, 1), matcher->may_end());
    if (out.turn_ended()) return shown + "|";
  }
  return shown + out.Finish();
}

TEST(Grammar, TurnsEndWhereAnEndTokenMayCome) {
  const auto tag =
      Compile(Structure::Kind::kTag, R"({"type":"structural_tag","format":{"type":"triggered_tags",
    "triggers":["<tool_call>"],"tags":[{"begin":"<tool_call>\n","content":{"type":"json_schema","json_schema":
    {"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}},"end":"\n</tool_call>"}],
    "stop_after_first":false}})");
  ASSERT_TRUE(tag.ok()) << tag.status().ToString();
  EXPECT_EQ(Until(Grammars::Match(*tag).get(), "Hello<|im_end|>"), "Hello|");
  const std::string call = "Now <tool_call>\n{\"a\": \"<|im_end|>\"}\n</tool_call>";
  EXPECT_EQ(Until(Grammars::Match(*tag).get(), call), call);
  EXPECT_EQ(Until(Grammars::Match(*tag).get(), call + " so<|im_end|>"), call + " so|");
  const auto schema = Compile(Structure::Kind::kSchema, R"({"type":"string"})");
  ASSERT_TRUE(schema.ok());
  EXPECT_EQ(Until(Grammars::Match(*schema).get(), "\"a<|im_end|>b\""), "\"a<|im_end|>b\"");
  const auto regex = Compile(Structure::Kind::kRegex, "[a-z<>|_]+");
  ASSERT_TRUE(regex.ok());
  EXPECT_EQ(Until(Grammars::Match(*regex).get(), "ab<|im_end|>"), "ab|");
}

TEST(Grammar, WhatIsAskedForStaysCompiled) {
  const auto word = [](int i) { return Structure{Structure::Kind::kRegex, "word" + std::to_string(i)}; };
  const auto large = HostCache::Make({});
  ASSERT_TRUE(OfBytes(large).Compile(word(0)).ok());
  const int64_t one = large->bytes(HostCache::Kind::kGrammar);
  ASSERT_GT(one, 0);
  // Room for some tens of them, half of it for the compiler's own cache.
  const auto host = HostCache::Make({.cache = 80 * one});
  Grammars grammars = OfBytes(host);
  EXPECT_EQ(grammars.Find(word(0)), nullptr);
  const auto first = grammars.Compile(word(0));
  ASSERT_TRUE(first.ok());
  for (int i = 1; i <= 400; ++i) {
    ASSERT_TRUE(grammars.Compile(word(i)).ok());
    ASSERT_EQ(grammars.Find(word(0)), *first) << i;
  }
  EXPECT_EQ(grammars.Find(word(1)), nullptr);
  EXPECT_NE(grammars.Find(word(400)), nullptr);
  EXPECT_EQ(*grammars.Compile(word(0)), *first);
  EXPECT_EQ(host->Audit(), "");
  // They outlive whoever compiled them, and are found by others of the same vocabulary.
  EXPECT_EQ(OfBytes(host).Find(word(0)), *first);
}

TEST(Grammar, AnyObjectIsAnObject) {
  const auto json = Compile(Structure::Kind::kJson, "");
  ASSERT_TRUE(json.ok()) << json.status().ToString();
  for (const std::string text : {"{}", "{\n  \"a\": [1, {\"b\": null}],\n  \"c\": \"d\"\n}"}) {
    const auto matcher = Grammars::Match(*json);
    for (const char c : text)
      ASSERT_TRUE(matcher->Accept(static_cast<unsigned char>(c))) << text << " at " << c;
    EXPECT_TRUE(matcher->may_end()) << text;
  }
  for (const char c : std::string("[1\"tfn"))
    EXPECT_FALSE(Grammars::Match(*json)->Accept(static_cast<unsigned char>(c)));
}

void Take(Matcher* matcher, const std::string& text) {
  for (const char c : text)
    ASSERT_TRUE(matcher->Accept(static_cast<unsigned char>(c))) << text << " at " << c;
}

TEST(Grammar, ForcedTextIsWhatLeavesNoChoice) {
  const auto schema =
      Compile(Structure::Kind::kSchema, R"({"type":"object","properties":{"näme":{"type":"string"},
    "size":{"enum":["small","smart"]},"n":{"type":"integer"}},"required":["näme","size","n"],"additionalProperties":false})");
  ASSERT_TRUE(schema.ok()) << schema.status().ToString();
  const auto matcher = Grammars::Match(*schema);
  EXPECT_EQ(matcher->Forced(), "{\"näme\": \"");
  Take(matcher.get(), "{\"näme\": \"");
  EXPECT_EQ(matcher->Forced(), "");
  Take(matcher.get(), "x\"");
  EXPECT_EQ(matcher->Forced(), ", \"size\": \"sma");
  Take(matcher.get(), ", \"size\": \"smar");
  EXPECT_EQ(matcher->Forced(), "t\", \"n\": ");
  Take(matcher.get(), "t\", \"n\": 7");
  EXPECT_EQ(matcher->Forced(), "");
  EXPECT_FALSE(matcher->done());
  Take(matcher.get(), "}");
  EXPECT_EQ(matcher->Forced(), "");  // it may end
  EXPECT_TRUE(matcher->done());      // and must: the model is not asked for the end
  const auto number = Grammars::Match(*Compile(Structure::Kind::kRegex, "[0-9]+"));
  Take(number.get(), "12");
  EXPECT_TRUE(number->may_end());
  EXPECT_FALSE(number->done());
}

// Grammars that never end, or not for 2^60 bytes: what is forced comes in parts, and costs no more memory
// than that.
TEST(Grammar, EndlessTextIsForcedInParts) {
  std::string doubling = "root ::= a0\n";
  for (int i = 0; i < 60; ++i)
    doubling +=
        "a" + std::to_string(i) + " ::= a" + std::to_string(i + 1) + " a" + std::to_string(i + 1) + "\n";
  doubling += "a60 ::= \"xy\"\n";
  const std::pair<Structure::Kind, std::string> endless[] = {
      {Structure::Kind::kSchema, R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})"},
      {Structure::Kind::kGrammar, "root ::= \"a\" root"},
      {Structure::Kind::kGrammar, doubling}};
  for (const auto& [kind, text] : endless) {
    const auto grammar = Compile(kind, text);
    ASSERT_TRUE(grammar.ok()) << text << ": " << grammar.status().ToString();
    const auto matcher = Grammars::Match(*grammar);
    for (int round = 0; round < 20; ++round) {
      const std::string part = matcher->Forced();
      EXPECT_GT(part.size(), 100U);
      EXPECT_LT(part.size(), 1000U);
      Take(matcher.get(), part);
    }
  }
}

}  // namespace
}  // namespace headrace::engine
