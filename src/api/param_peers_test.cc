// Calls for vectors, ranks, tokens and scores of answers: each field, given a wrong type or value, is refused
// with 400 and the path of that place.
#include "api/param_testing.h"

namespace headrace::api {
namespace {

std::optional<Fault> Embeddings(std::string_view body) {
  EmbeddingsCall call;
  return ParseEmbeddings(body, &call);
}

std::optional<Fault> Rerank(std::string_view body) {
  RerankCall call;
  return ParseRerank(body, &call);
}

std::optional<Fault> Pairs(std::string_view body) {
  PairsCall call;
  return ParsePairs(body, &call);
}

std::optional<Fault> Score(std::string_view body) {
  ScoreCall call;
  return ParseScore(body, &call);
}

Parse Tokens(bool back) {
  return [back](std::string_view body) {
    TokenizeCall call;
    return ParseTokenize(body, back, &call);
  };
}

TEST(Params, Embeddings) {
  ExpectRefused("embeddings", Embeddings, R"({"input": ["a", [1, 2]]})",
                {{"/model", "5"},
                 {"/input", "-"},
                 {"/input", "5"},
                 {"/input", "[]"},
                 {"/input", "{}"},
                 {"/input", "[1, -1]", "input[1]"},
                 {"/input", "[[1, -1]]", "input[0][1]"},
                 {"/input", "[[]]", "input[0]"},
                 {"/input/0", "{}"},
                 {"/input/1", "true"},
                 {"/input/1/0", "true"},
                 {"/dimensions", "0"},
                 {"/encoding_format", "\"hex\""},
                 {"/encoding_format", "5"},
                 {"/deadline", "0"},
                 {"/deadline", "\"soon\""},
                 {"/truncate", "1"},
                 {"/truncate_prompt_tokens", "0"},
                 {"/truncate_prompt_tokens", "-2"},
                 {"/user", "5"}});
}

TEST(Params, Rerank) {
  ExpectRefused("rerank", Rerank, R"({"query": "q", "documents": ["a", {"text": "b"}]})",
                {{"/model", "5"},
                 {"/query", "-"},
                 {"/query", "[]"},
                 {"/documents", "-"},
                 {"/documents", "\"a\""},
                 {"/documents", "[]"},
                 {"/documents/0", "5"},
                 {"/documents/1/text", "-"},
                 {"/documents/1/text", "5"},
                 {"/top_n", "0"},
                 {"/return_documents", "5"},
                 {"/raw_scores", "5"},
                 {"/deadline", "-1"}});
  ExpectRefused("rerank, as text-embeddings-inference", Rerank, R"({"query": "q", "texts": ["a", "b"]})",
                {{"/texts", "[]"}, {"/texts/1", "5"}, {"/return_text", "5"}, {"/deadline", "[]"}});
}

// Lists hold 2,048 entries at most (kMostInputs), and `top_n` is 2^20 at most.
TEST(Params, ListsHaveALimit) {
  const auto list = [](size_t count) { return Json(std::vector<std::string>(count, "a")); };
  const auto refused = [](const Parse& parse, const Json& body, const std::string& param) {
    const auto fault = parse(body.dump());
    return fault && fault->status == 400 && fault->param == param;
  };
  for (const size_t count : {1, 2047, 2048, 2049}) {
    const bool many = count > 2048;
    EXPECT_EQ(refused(Rerank, {{"query", "q"}, {"documents", list(count)}}, "documents"), many) << count;
    EXPECT_EQ(refused(Rerank, {{"query", "q"}, {"texts", list(count)}}, "texts"), many) << count;
    EXPECT_EQ(refused(Pairs, {{"text_1", "q"}, {"text_2", list(count)}}, "text_2"), many) << count;
    EXPECT_EQ(refused(Pairs, {{"text_1", list(count)}, {"text_2", list(count)}}, "text_1"), many) << count;
    EXPECT_EQ(refused(Embeddings, {{"input", list(count)}}, "input"), many) << count;
  }
  EXPECT_FALSE(Rerank(R"({"query": "q", "documents": ["a"], "top_n": 1048576})"));
  EXPECT_TRUE(refused(Rerank, {{"query", "q"}, {"documents", list(1)}, {"top_n", 1048577}}, "top_n"));
}

TEST(Params, Pairs) {
  ExpectRefused("score", Pairs, R"({"text_1": ["a", "b"], "text_2": ["c", {"text": "d"}]})",
                {{"/text_1", "-"},
                 {"/text_1", "5"},
                 {"/text_1/1", "5"},
                 {"/text_2", "-"},
                 {"/text_2", "[]"},
                 {"/text_2/1", "[]"},
                 {"/text_2/1/text", "-"},
                 {"/text_2", "[\"c\"]"},
                 {"/truncate_prompt_tokens", "\"x\""},
                 {"/deadline", "604801"}});
  ExpectRefused("score, by its other names", Pairs, R"({"queries": ["a", "b"], "documents": ["c", "d"]})",
                {{"/queries/1", "5"}, {"/documents/1", "5"}, {"/documents", "[\"c\"]"}});
}

TEST(Params, Tokens) {
  ExpectRefused("tokenize", Tokens(false), R"({"prompt": "a"})",
                {{"/model", "5"},
                 {"/prompt", "-"},
                 {"/prompt", "5"},
                 {"/content", "5"},
                 {"/messages", "5"},
                 {"/messages", "[{\"role\": \"user\"}]", "messages[0].content"},
                 {"/add_special_tokens", "5"},
                 {"/add_special", "5"},
                 {"/parse_special", "5"},
                 {"/return_token_strs", "5"},
                 {"/with_pieces", "5"}});
  ExpectRefused("detokenize", Tokens(true), R"({"tokens": [1, 2]})",
                {{"/tokens", "-"}, {"/tokens", "5"}, {"/tokens/1", "-1"}, {"/tokens/1", "\"x\""}});
}

TEST(Params, Scores) {
  ExpectRefused(
      "scores", Score, R"({"request": "r", "value": 1})",
      {{"/request", "-"},  {"/target", "\"run:1\""}, {"/target_kind", "\"run\""}, {"/against", "5"},
       {"/judge", "5"},    {"/repeat", "-1"},        {"/repeat", "0.5"},          {"/run", "5"},
       {"/seconds", "-1"}, {"/supersedes", "5"},     {"/withdraw", "5"},          {"/request", "\"\""},
       {"/request", "5"},  {"/name", "5"},           {"/value", "\"good\""},      {"/value", "-"},
       {"/label", "5"},    {"/comment", "5"},        {"/source", "\"nobody\""},   {"/who", "5"}});
  ExpectRefused("scores of anything", Score, R"({"target": "run:1", "withdraw": true})",
                {{"/target", "\"\""}, {"/target", "5"}, {"/target_kind", "5"}});
}

TEST(Params, Queues) {
  const auto label = [](std::string_view body) {
    QueueCall call;
    return ParseQueue(body, QueueAction::kLabel, &call);
  };
  ExpectRefused("labels", label, R"({"item": 1, "label": "good"})",
                {{"/item", "-"},
                 {"/item", "-1"},
                 {"/item", "\"1\""},
                 {"/label", "-"},
                 {"/label", "5"},
                 {"/value", "\"1\""},
                 {"/comment", "5"},
                 {"/seconds", "-1"},
                 {"/skip", "true"},
                 {"/skip", "5"},
                 {"/who", "5"}});
}

}  // namespace
}  // namespace headrace::api
