// Grammars over a vocabulary of bytes, so that what they allow is seen without a model.
#include "engine/grammar.h"

#include <gtest/gtest.h>

#include "engine/text_out.h"

namespace headrace::engine {
namespace {

constexpr Token kEnd = 256;

Result<std::shared_ptr<const CompiledGrammar>> Compile(Structure::Kind kind, const std::string& text) {
  std::vector<std::string> pieces;
  for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
  pieces.emplace_back("");
  return Grammars(std::move(pieces), {kEnd}).Compile({kind, text});
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

}  // namespace
}  // namespace headrace::engine
