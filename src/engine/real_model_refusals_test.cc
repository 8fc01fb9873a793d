// What the engine refuses, word for word; what looks hostile and is answered.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "engine/real_model_testing.h"

namespace headrace::engine {
namespace {

class Refusals : public ::testing::Test {
 protected:
  Refusals() : loaded_(MakeTiny({.seed = 11})), engine_(MakeEngine(loaded_, {.decoder = {.cells = 512}})) {
    good_.prompt = {1, 270, 271};
    good_.max_tokens = 4;
  }

  // The error of a good request with one change, or how it finished and after how many tokens.
  std::string With(const std::function<void(Request*)>& change) {
    Request request = good_;
    change(&request);
    auto stream = engine_->Submit(request);
    if (!stream.ok()) return stream.status().ToString();
    const Answer answer = Read(stream->get());
    return answer.last.finish == Finish::kError ? answer.last.error.ToString()
                                                : "finished: " + std::string(FinishName(answer.last.finish)) +
                                                      " " + std::to_string(answer.tokens.size());
  }
  std::string WithStructure(Structure::Kind kind, const std::string& text) {
    return With([&](Request* r) { r->structure = {kind, text}; });
  }
  std::string WithSchema(const std::string& text) { return WithStructure(Structure::Kind::kSchema, text); }

  // After whatever came before, a good request is answered.
  void TearDown() override { EXPECT_EQ(Ask(engine_.get(), good_).tokens.size(), 4U); }

  const std::shared_ptr<model::Model> loaded_;
  const std::unique_ptr<Engine> engine_;
  Request good_;
};

TEST_F(Refusals, Prompts) {
  const auto prompt = [&](const Prompt& tokens) { return With([&](Request* r) { r->prompt = tokens; }); };
  EXPECT_EQ(prompt({}), "the prompt is empty: there is nothing to continue");
  EXPECT_EQ(prompt(std::vector<Token>(1'000'000, 5)),
            "the prompt has 1000000 tokens and the context holds 512, one of them for an answer; shorten the "
            "prompt or load the model with a longer context");
  EXPECT_EQ(With([](Request* r) {
              r->prompt.Add(Media{"a cat", 4});
            }),
            "the prompt holds media, and this model reads text alone");
  EXPECT_EQ(prompt({5, -1}), "the prompt holds token -1; this model has tokens 0 to 298");
  EXPECT_EQ(prompt({5, 299}), "the prompt holds token 299; this model has tokens 0 to 298");
  // Bytes that are no UTF-8 are tokens like others.
  const auto tokens = loaded_->Tokenize("\xFF\xFE\x80 ok \xC3", true, false);
  ASSERT_TRUE(tokens.ok());
  EXPECT_GE(tokens->size(), 5U);
}

TEST_F(Refusals, Sampling) {
  EXPECT_EQ(With([](Request* r) { r->sampling.temperature = NAN; }), "temperature must be from 0 to 100");
  EXPECT_EQ(With([](Request* r) { r->sampling.temperature = -1; }), "temperature must be from 0 to 100");
  EXPECT_EQ(With([](Request* r) { r->sampling.top_p = 0; }), "top_p must be above 0 and at most 1");
  EXPECT_EQ(With([](Request* r) { r->sampling.top_p = NAN; }), "top_p must be above 0 and at most 1");
  EXPECT_EQ(With([](Request* r) { r->sampling.min_p = INFINITY; }), "min_p must be from 0 to 1");
  EXPECT_EQ(With([](Request* r) { r->sampling.repetition_penalty = 0.009F; }),
            "repetition_penalty must be from 0.01 to 100");
  for (const float penalty : {0.01F, 100.0F})
    EXPECT_EQ(With([&](Request* r) { r->sampling.repetition_penalty = penalty; }).rfind("finished", 0), 0U)
        << penalty;
  EXPECT_EQ(With([](Request* r) {
              r->sampling.logit_bias = {{5, NAN}};
            }),
            "logit_bias of token 5 must be from -100 to 100");
  EXPECT_EQ(With([](Request* r) { r->sampling.logit_bias = {{5'000'000, 3.0F}}; }).rfind("finished", 0), 0U);
}

TEST_F(Refusals, Ends) {
  EXPECT_EQ(With([](Request* r) { r->max_tokens = 0; }), "finished: length 0");
  EXPECT_EQ(With([](Request* r) { r->max_tokens = -5; }), "max_tokens must be 0 or more");
  EXPECT_EQ(With([](Request* r) { r->stops = {std::string(10 << 20, 'x')}; }),
            "a stop string has 10485760 bytes; at most 65536 are taken (kMaxStopBytes)");
  EXPECT_EQ(With([](Request* r) { r->stops = {""}; }), "a stop string is empty");
  EXPECT_EQ(With([](Request* r) { r->stops.assign(17, "x"); }),
            "there are 17 stop strings; at most 16 are taken (kMaxStops)");
  EXPECT_EQ(With([](Request* r) { r->timeout = NAN; }), "the timeout must be 0 (none) or more seconds");
}

TEST_F(Refusals, Structures) {
  EXPECT_EQ(WithSchema("{"), "the schema is not JSON");
  EXPECT_EQ(WithSchema("[1]"), "a JSON schema is an object, true or false");
  EXPECT_EQ(WithSchema(R"({"properties":{"a":{"not":{"const":1}}}})"),
            "the schema's #/properties/a/not cannot be enforced; leave it out, or check the answer yourself");
  EXPECT_EQ(WithSchema(std::string(2 << 20, ' ')),
            "a schema or grammar of 2097152 bytes is larger than the limit of 1048576 (kMaxSchemaBytes)");
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += R"({"items":)";
  EXPECT_EQ(WithSchema(deep), "the schema is nested more than 256 deep");
  EXPECT_NE(WithStructure(Structure::Kind::kRegex, "([").find("the schema or grammar cannot be used"),
            std::string::npos);
  for (const char* nothing : {R"({"not":{}})", R"({"type":"string","minLength":3,"maxLength":2})"})
    EXPECT_EQ(WithSchema(nothing), "the schema allows no value at all");
  // A schema that refers to itself is fine.
  good_.sampling.temperature = 0;
  good_.max_tokens = 30;
  EXPECT_EQ(
      WithSchema(
          R"({"$defs":{"n":{"type":"object","properties":{"c":{"type":"array","items":{"$ref":"#/$defs/n"}}},"additionalProperties":false}},"$ref":"#/$defs/n"})"),
      "finished: end 9");
  good_.max_tokens = 4;
}

}  // namespace
}  // namespace headrace::engine
