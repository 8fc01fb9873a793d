// Each field of each API, given a wrong type or value, is refused with 400 and the path of that place.
#include <functional>

#include "api/call.h"
#include "api/fields.h"
#include "testing.h"

namespace headrace::api {
namespace {

using Parse = std::function<std::optional<Fault>(std::string_view)>;

Parse Speaking(Dialect dialect) {
  return [dialect](std::string_view body) {
    Call call;
    return ParseCall(dialect, body, &call);
  };
}

struct Wrong {
  const char* place;            // a JSON pointer into the body: what is set there
  const char* value;            // as JSON; "-": the place is removed
  const char* param = nullptr;  // where it is not the place's own path
};

// "/messages/0/content" as messages[0].content
std::string PathOf(std::string_view pointer) {
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

void ExpectRefused(const char* api, const Parse& parse, const char* body, const std::vector<Wrong>& wrongs) {
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

// What all that write text take, at each field a wrong type and, where there are any, wrong values.
std::vector<Wrong> Sampling() {
  std::vector<Wrong> wrongs = {
      {"/top_p", "1.5"},
      {"/top_p", "{}"},
      {"/min_p", "2"},
      {"/min_p", "true"},
      {"/frequency_penalty", "-3"},
      {"/presence_penalty", "\"x\""},
      {"/repetition_penalty", "0"},
      {"/repeat_penalty", "[]"},
      {"/temperature", "101"},
      {"/temperature", "\"hot\""},
      {"/top_k", "1.5"},
      {"/top_k", "-2"},
      {"/seed", "\"x\""},
      {"/ignore_eos", "1"},
      {"/cache_prompt", "\"no\""},
      {"/lookup", "0"},
      {"/priority", "1001"},
      {"/deadline", "0"},
      {"/n", "0"},
      {"/n", "129"},
      {"/user", "5"},
      {"/stop_token_ids", "5"},
      {"/stop_token_ids", "[1, -1]", "stop_token_ids[1]"},
      {"/stop_token_ids", "[1, 2, \"x\"]", "stop_token_ids[2]"},
      {"/min_tokens", "-1"},
      {"/bad_words", "5"},
      {"/bad_words", "[\"a\", 5]", "bad_words[1]"},
      {"/bad_words", "[\"a\", \"  \"]", "bad_words[1]"},
      {"/xtc_probability", "1.5"},
      {"/xtc_threshold", "-1"},
      {"/dry_multiplier", "\"x\""},
      {"/dry_base", "101"},
      {"/dry_allowed_length", "-1"},
      {"/dry_penalty_last_n", "-2"},
      {"/dry_sequence_breakers", "[]"},
      {"/dry_sequence_breakers", "[\"a\", 1]", "dry_sequence_breakers[1]"},
      {"/timings_per_token", "1"},
      {"/return_progress", "\"\""},
      {"/guided_json", "5"},
      {"/guided_json", "{\"type\": \"nothing\"}"},
      {"/guided_regex", "5"},
      {"/guided_choice", "[]"},
      {"/guided_choice", "[\"a\", 5]", "guided_choice[1]"},
      {"/guided_grammar", "{}"},
      {"/structured_outputs", "5"},
      {"/structured_outputs", "{\"json\": 5}", "structured_outputs.json"},
      {"/structured_outputs", "{\"regex\": 5}", "structured_outputs.regex"},
      {"/structured_outputs", "{\"choice\": [5]}", "structured_outputs.choice[0]"},
      {"/structured_outputs", "{\"grammar\": 5}", "structured_outputs.grammar"},
      {"/structured_outputs", "{\"json_object\": 5}", "structured_outputs.json_object"},
      {"/structured_outputs", "{\"regex\": \"a\", \"choice\": [\"a\"]}", "structured_outputs.choice"},
      {"/grammar", "5"},
      {"/json_schema", "5"},
      {"/json_schema", "{\"$ref\": \"elsewhere\"}"},
      {"/stream", "\"yes\""},
  };
  return wrongs;
}
std::vector<Wrong> With(std::vector<Wrong> some, const std::vector<Wrong>& more) {
  some.insert(some.end(), more.begin(), more.end());
  return some;
}
// Where logit_bias is OpenAI's.
const std::vector<Wrong> kBias = {{"/logit_bias", "[]"},
                                  {"/logit_bias", "{\"x\": 1}", "logit_bias.x"},
                                  {"/logit_bias", "{\"5\": \"x\"}", "logit_bias.5"},
                                  {"/logit_bias", "{\"1\": 1, \"5\": 101}", "logit_bias.5"}};
const std::vector<Wrong> kTemplate = {
    {"/chat_template_kwargs", "[]"}, {"/add_generation_prompt", "5"}, {"/continue_final_message", "\"x\""}};

TEST(Params, Chat) {
  ExpectRefused(
      "chat", Speaking(Dialect::kChat), R"({"model": "m", "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "n"},
        {"role": "assistant", "content": null, "tool_calls": [
          {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
          {"id": "2", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "x"}],
      "tools": [{"type": "function", "function": {"name": "g"}},
                {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]})",
      With(
          With(With(Sampling(), kBias), kTemplate),
          {{"/model", "5"},
           {"/messages", "-"},
           {"/messages", "\"hello\""},
           {"/messages", "[]"},
           {"/messages/1", "5"},
           {"/messages/1/role", "-"},
           {"/messages/1/role", "5"},
           {"/messages/1/role", "\"robot\""},
           {"/messages/1/content", "-"},
           {"/messages/1/content", "5"},
           {"/messages/1/content/1", "5"},
           {"/messages/1/content/1/type", "-"},
           {"/messages/1/content/1/type", "\"image_url\""},
           {"/messages/1/content/1/text", "-"},
           {"/messages/1/content/1/text", "{}"},
           {"/messages/1/name", "5"},
           {"/messages/2/reasoning_content", "[]"},
           {"/messages/2/tool_calls", "{}"},
           {"/messages/2/tool_calls/1", "\"f\""},
           {"/messages/2/tool_calls/1/id", "5"},
           {"/messages/2/tool_calls/1/function", "-"},
           {"/messages/2/tool_calls/1/function", "[]"},
           {"/messages/2/tool_calls/1/function/name", "-"},
           {"/messages/2/tool_calls/1/function/name", "5"},
           {"/messages/3/tool_call_id", "1"},
           {"/tools", "{}"},
           {"/tools/1", "\"f\""},
           {"/tools/1/type", "5"},
           {"/tools/1/function", "-"},
           {"/tools/1/function", "5"},
           {"/tools/1/function/name", "-"},
           {"/tools/1/function/name", "\"\""},
           {"/tools/1/function/description", "5"},
           {"/tools/1/function/parameters", "\"object\""},
           {"/tools/1/function/strict", "\"yes\""},
           {"/parallel_tool_calls", "5"},
           {"/tool_choice", "5"},
           {"/tool_choice", "\"always\""},
           {"/tool_choice", "{}", "tool_choice.function"},
           {"/tool_choice", R"({"function": 5})", "tool_choice.function"},
           {"/tool_choice", R"({"function": {}})", "tool_choice.function.name"},
           {"/tool_choice", R"({"function": {"name": "h"}})", "tool_choice.function.name"},
           {"/tool_choice", R"({"type": "allowed_tools"})", "tool_choice.allowed_tools"},
           {"/tool_choice", R"({"type": "allowed_tools", "allowed_tools": {"mode": "x"}})",
            "tool_choice.allowed_tools.mode"},
           {"/tool_choice", R"({"type": "allowed_tools", "allowed_tools": {"mode": "auto"}})",
            "tool_choice.allowed_tools.tools"},
           {"/tool_choice",
            R"({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "h"}}]}})",
            "tool_choice.allowed_tools.tools[0].function.name"},
           {"/tool_choice",
            R"({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function"}]}})",
            "tool_choice.allowed_tools.tools[0].function"},
           {"/stream_options", "{}"},
           {"/stream_options", "5"},
           {"/stream_options", R"({"include_usage": 5})", "stream_options.include_usage"},
           {"/max_tokens", "1.5"},
           {"/max_tokens", "-2"},
           {"/max_completion_tokens", "\"5\""},
           {"/stop", "5"},
           {"/stop", "\"\""},
           {"/stop", "[\"a\", \"\"]", "stop[1]"},
           {"/stop", "[\"a\", 5]", "stop[1]"},
           {"/logprobs", "3"},
           {"/top_logprobs", "21"},
           {"/top_logprobs", "3"},
           {"/response_format", "\"json\""},
           {"/response_format", "{}", "response_format.type"},
           {"/response_format", R"({"type": "xml"})", "response_format.type"},
           {"/response_format", R"({"type": "json_schema"})", "response_format.json_schema"},
           {"/response_format", R"({"type": "json_schema", "json_schema": 5})",
            "response_format.json_schema"},
           {"/response_format", R"({"type": "json_schema", "json_schema": {}})",
            "response_format.json_schema.schema"},
           {"/response_format", R"({"type": "json_schema", "json_schema": {"schema": {"type": "x"}}})",
            "response_format.json_schema.schema"},
           {"/response_format", R"({"type": "json_object", "schema": 5})", "response_format.schema"},
           {"/reasoning_effort", "5"},
           {"/include_reasoning", "5"},
           {"/modalities", "\"text\""},
           {"/modalities", R"(["text", "audio"])", "modalities[1]"}}));
}

TEST(Params, Completions) {
  ExpectRefused("completions", Speaking(Dialect::kCompletions), R"({"prompt": ["a", [1, 2], "c"]})",
                With(With(Sampling(), kBias),
                     {{"/model", "5"},          {"/prompt", "-"},
                      {"/prompt", "5"},         {"/prompt", "[]"},
                      {"/prompt", "{}"},        {"/prompt", "[1, 2, -1]", "prompt[2]"},
                      {"/prompt/0", "{}"},      {"/prompt/1", "true"},
                      {"/prompt/1", "[]"},      {"/prompt/1/1", "true"},
                      {"/max_tokens", "\"x\""}, {"/stop", "[\"a\", \"\"]", "stop[1]"},
                      {"/logprobs", "true"},    {"/logprobs", "101"},
                      {"/echo", "1"},           {"/prompt_logprobs", "\"x\""},
                      {"/suffix", "\"x\""},     {"/suffix", "5"},
                      {"/best_of", "2"},        {"/add_special_tokens", "1"},
                      {"/parse_special", "1"},  {"/response_format", "{}", "response_format.type"}}));
}

TEST(Params, Responses) {
  ExpectRefused(
      "responses", Speaking(Dialect::kResponses), R"({"input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "x"},
        {"type": "custom_tool_call", "call_id": "2", "name": "f", "input": "i"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "a"}]},
        {"type": "local_shell_call", "call_id": "3", "action": {}}],
      "tools": [{"type": "web_search"}, {"type": "function", "name": "f", "parameters": {"type": "object"}}]})",
      With(With(Sampling(), kBias),
           {{"/model", "[]"},
            {"/input", "-"},
            {"/input", "5"},
            {"/input", "[]"},
            {"/input/0", "5"},
            {"/input/0/type", "5"},
            {"/input/0/role", "-"},
            {"/input/0/role", "\"robot\""},
            {"/input/0/content", "5"},
            {"/input/0/content/0/type", "\"input_image\""},
            {"/input/0/content/0/text", "-"},
            {"/input/1/call_id", "-"},
            {"/input/1/name", "5"},
            {"/input/1/arguments", "{}"},
            {"/input/2/output", "-"},
            {"/input/2/call_id", "5"},
            {"/input/3/input", "-"},
            {"/input/4/output/0/text", "5"},
            {"/input/5/action", "-"},
            {"/instructions", "5"},
            {"/previous_response_id", "5"},
            {"/conversation", "\"c\""},
            {"/store", "1"},
            {"/background", "true"},
            {"/background", "1"},
            {"/max_output_tokens", "-2"},
            {"/text", "5"},
            {"/text", "{\"format\": 5}", "text.format"},
            {"/text", "{\"format\": {\"type\": \"x\"}}", "text.format.type"},
            {"/text", "{\"format\": {\"type\": \"json_schema\"}}", "text.format.schema"},
            {"/reasoning", "5"},
            {"/reasoning", "{\"effort\": 5}", "reasoning.effort"},
            {"/tools", "5"},
            {"/tools/1", "5"},
            {"/tools/1/type", "-"},
            {"/tools/1/name", "-"},
            {"/tools/1/name", "5"},
            {"/tools/1/parameters", "5"},
            {"/tools/1/strict", "5"},
            {"/parallel_tool_calls", "5"},
            {"/tool_choice", "5"},
            {"/tool_choice", "{}", "tool_choice.name"},
            {"/tool_choice", "{\"type\": \"function\", \"name\": \"g\"}", "tool_choice.name"},
            {"/tool_choice", "{\"type\": \"allowed_tools\", \"mode\": 5}", "tool_choice.mode"},
            {"/tool_choice", R"({"type": "allowed_tools", "mode": "auto", "tools": [{"name": "g"}]})",
             "tool_choice.tools[0].name"},
            {"/tool_choice", R"({"type": "allowed_tools", "mode": "auto", "tools": [5]})",
             "tool_choice.tools[0]"},
            {"/top_logprobs", "21"},
            {"/metadata", "5"}}));
}

TEST(Params, Messages) {
  ExpectRefused(
      "messages", Speaking(Dialect::kMessages),
      R"({"model": "m", "max_tokens": 5, "system": [{"type": "text", "text": "s"}],
      "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
                   {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"},
                                                     {"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
                   {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1",
                                                 "content": [{"type": "text", "text": "r"}]}]}],
      "tools": [{"name": "f", "input_schema": {"type": "object"}}]})",
      With(With(With(Sampling(), kBias), kTemplate),
           {{"/model", "-"},
            {"/model", "5"},
            {"/max_tokens", "-"},
            {"/max_tokens", "\"5\""},
            {"/messages", "-"},
            {"/messages", "[]"},
            {"/messages", "{}"},
            {"/messages/0", "5"},
            {"/messages/0/role", "\"robot\""},
            {"/messages/0/role", "-"},
            {"/messages/0/content", "-"},
            {"/messages/0/content", "5"},
            {"/messages/0/content/0", "\"a\""},
            {"/messages/0/content/0/type", "-"},
            {"/messages/0/content/0/type", "\"image\""},
            {"/messages/0/content/0/text", "5"},
            {"/messages/1/content/0/thinking", "5"},
            {"/messages/1/content/1/id", "-"},
            {"/messages/1/content/1/name", "5"},
            {"/messages/1/content/1/input", "-"},
            {"/messages/2/content/0/tool_use_id", "-"},
            {"/messages/2/content/0/content", "5"},
            {"/messages/2/content/0/content/0/type", "\"image\""},
            {"/messages/2/content/0/content/0/text", "-"},
            {"/system", "5"},
            {"/system/0/text", "-"},
            {"/stop_sequences", "5"},
            {"/stop_sequences", "[\"a\", \"\"]", "stop_sequences[1]"},
            {"/tools", "5"},
            {"/tools/0", "5"},
            {"/tools/0/name", "-"},
            {"/tools/0/type", "5"},
            {"/tools/0/input_schema", "5"},
            {"/tool_choice", "\"any\""},
            {"/tool_choice", "{}", "tool_choice.type"},
            {"/tool_choice", "{\"type\": \"x\"}", "tool_choice.type"},
            {"/tool_choice", "{\"type\": \"tool\"}", "tool_choice.name"},
            {"/tool_choice", "{\"type\": \"tool\", \"name\": \"g\"}", "tool_choice.name"},
            {"/tool_choice", "{\"type\": \"auto\", \"disable_parallel_tool_use\": 5}",
             "tool_choice.disable_parallel_tool_use"},
            {"/thinking", "5"},
            {"/thinking", "{}", "thinking.type"},
            {"/metadata", "5"},
            {"/metadata", "{\"user_id\": 5}", "metadata.user_id"},
            {"/output_config", "5"},
            {"/output_config", "{\"format\": 5}", "output_config.format"},
            {"/output_config", "{\"format\": {\"type\": \"x\"}}", "output_config.format.type"},
            {"/output_config", "{\"format\": {\"type\": \"json_schema\"}}", "output_config.format.schema"},
            {"/output_format", "{\"type\": \"json_schema\", \"schema\": 5}", "output_format.schema"}}));
}

TEST(Params, Native) {
  ExpectRefused(
      "native", Speaking(Dialect::kNative), R"({"prompt": "a"})",
      With(Sampling(),
           {{"/prompt", "-"},
            {"/prompt", "5"},
            {"/prompt", "[]"},
            {"/prompt", "[1, -1]", "prompt[1]"},
            {"/prompt", "[1, \"a\", {}]", "prompt[2]"},
            {"/prompt", "[\"a\", []]", "prompt[1]"},
            {"/prompt", "[\"a\", [1, -5]]", "prompt[1][1]"},
            {"/prompt", "[\"a\", [1, \"b\", -5]]", "prompt[1][2]"},
            {"/prompt", "{}"},
            {"/prompt", "{\"content\": 5}", "prompt.content"},
            {"/prompt", "{\"content\": [{\"type\": \"image\"}]}", "prompt.content[0].type"},
            {"/prompt", "[\"a\", {\"prompt_string\": 5}]", "prompt[1].prompt_string"},
            {"/prompt", "{\"prompt_string\": \"a\", \"multimodal_data\": []}", "prompt.multimodal_data"},
            {"/logit_bias", "5"},
            {"/logit_bias", "{\"5\": \"x\"}", "logit_bias.5"},
            {"/logit_bias", "[5]", "logit_bias[0]"},
            {"/logit_bias", "[[1, 1], [2]]", "logit_bias[1]"},
            {"/logit_bias", "[[1, 1], [-2, 1]]", "logit_bias[1][0]"},
            {"/logit_bias", "[[1, 1], [2, \"x\"]]", "logit_bias[1][1]"},
            {"/n_predict", "-3"},
            {"/max_tokens", "\"x\""},
            {"/n_cmpl", "0"},
            {"/stop", "[5]", "stop[0]"},
            {"/n_probs", "101"},
            {"/return_tokens", "5"},
            {"/response_fields", "5"},
            {"/response_fields", "[5]", "response_fields[0]"}}));
}

TEST(Params, TheSmallerOnes) {
  ExpectRefused("embeddings",
                [](std::string_view body) {
                  EmbeddingsCall call;
                  return ParseEmbeddings(body, &call);
                },
                R"({"input": ["a", [1, 2]]})",
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
  ExpectRefused("rerank",
                [](std::string_view body) {
                  RerankCall call;
                  return ParseRerank(body, &call);
                },
                R"({"query": "q", "documents": ["a", {"text": "b"}]})",
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
  ExpectRefused("rerank, as text-embeddings-inference",
                [](std::string_view body) {
                  RerankCall call;
                  return ParseRerank(body, &call);
                },
                R"({"query": "q", "texts": ["a", "b"]})",
                {{"/texts", "[]"}, {"/texts/1", "5"}, {"/return_text", "5"}, {"/deadline", "[]"}});
  const Parse pairs = [](std::string_view body) {
    PairsCall call;
    return ParsePairs(body, &call);
  };
  ExpectRefused("score", pairs, R"({"text_1": ["a", "b"], "text_2": ["c", {"text": "d"}]})",
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
  ExpectRefused("score, by its other names", pairs, R"({"queries": ["a", "b"], "documents": ["c", "d"]})",
                {{"/queries/1", "5"}, {"/documents/1", "5"}, {"/documents", "[\"c\"]"}});
  for (const bool back : {false, true}) {
    const Parse parse = [back](std::string_view body) {
      TokenizeCall call;
      return ParseTokenize(body, back, &call);
    };
    if (back) {
      ExpectRefused("detokenize", parse, R"({"tokens": [1, 2]})",
                    {{"/tokens", "-"}, {"/tokens", "5"}, {"/tokens/1", "-1"}, {"/tokens/1", "\"x\""}});
      continue;
    }
    ExpectRefused("tokenize", parse, R"({"prompt": "a"})",
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
  }
  ExpectRefused("scores",
                [](std::string_view body) {
                  ScoreCall call;
                  return ParseScore(body, &call);
                },
                R"({"request": "r", "value": 1})",
                {{"/request", "-"},
                 {"/request", "\"\""},
                 {"/request", "5"},
                 {"/name", "5"},
                 {"/value", "\"good\""},
                 {"/value", "-"},
                 {"/label", "5"},
                 {"/comment", "5"},
                 {"/source", "\"nobody\""},
                 {"/who", "5"}});
}

}  // namespace
}  // namespace headrace::api
