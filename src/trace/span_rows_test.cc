// What senders of each convention say, as rows.
#include "trace/span_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "base/base64.h"
#include "base/digest.h"
#include "testing.h"
#include "trace/columns.h"
#include "trace/span_names.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

json Made(Span span, std::vector<json>* media = nullptr) {
  std::vector<json> none;
  return SpanRow(std::move(span), json::object(), {}, media == nullptr ? &none : media);
}

json RowOf(const char* attributes, const char* events = "[]") {
  Span span;
  span.trace_id = std::string(32, 'a');
  span.span_id = std::string(16, 'b');
  span.name = "n";
  span.start_ns = 1'000'000'000;
  span.end_ns = 1'500'000'000;
  span.kind = 3;
  std::string told = attributes;  // whose lines are broken within texts, too
  std::replace(told.begin(), told.end(), '\n', ' ');
  span.attributes = json::parse(told);
  span.events = json::parse(events);
  std::vector<json> media;
  return SpanRow(std::move(span), {{"service.name", "app"}}, {OtlpFormat::kJson, 42, "k", "key", "sdk/1"},
                 &media);
}

json Input(const json& row) { return json::parse(row["input"].get<std::string>()); }

TEST(SpanRows, EveryNameMeansAColumn) {
  const std::set<std::string> parts = {"messages", "system", "tools", "choices", "said", "calls", "sampling"};
  std::set<std::string> columns;
  for (const Column& column : TraceColumns()) columns.insert(column.name);
  for (const SpanName& name : SpanNames())
    EXPECT_TRUE(columns.contains(std::string(name.to)) || parts.contains(std::string(name.to)) ||
                name.to.starts_with("sampling."))
        << name.to;
}

TEST(SpanRows, WhatEverySpanHas) {
  const json row = RowOf(R"({"x": 1, "http.response.status_code": 200})");
  EXPECT_EQ(row["id"], std::string(32, 'a') + std::string(16, 'b'));
  EXPECT_EQ(row["time"], 42);
  EXPECT_EQ(row["started"], 1'000'000);
  EXPECT_EQ(row["ended"], 1'500'000);
  EXPECT_EQ(row["total_seconds"], 0.5);
  EXPECT_EQ(row["kind"], "client");
  EXPECT_EQ(row["service"], "app");
  EXPECT_EQ(row["status"], 200);
  EXPECT_EQ(row["key_name"], "key");
  EXPECT_EQ(row["attributes"], R"({"http.response.status_code":200,"x":1})");
  for (const char* none : {"parent", "input", "answer", "error", "finish", "media", "events", "links"})
    EXPECT_FALSE(row.contains(none)) << none;
}

TEST(SpanRows, GenAi) {
  const json row = RowOf(R"({"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-x", "gen_ai.response.model": "gpt-x-1", "gen_ai.request.max_tokens": 50,
    "gen_ai.request.temperature": 0.5, "gen_ai.request.stop_sequences": ["a"], "gen_ai.conversation.id": "s1",
    "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 20, "gen_ai.usage.cache_read.input_tokens": 4,
    "gen_ai.response.finish_reasons": ["tool_calls"],
    "gen_ai.system_instructions": "[{\"type\": \"text\", \"content\": \"Be brief.\"}]",
    "gen_ai.input.messages": "[{\"role\": \"user\", \"parts\": [{\"type\": \"text\", \"content\": \"Weather?\"}]},
      {\"role\": \"assistant\", \"parts\": [{\"type\": \"tool_call\", \"id\": \"c1\", \"name\": \"weather\",
      \"arguments\": {\"city\": \"Paris\"}}]}, {\"role\": \"tool\", \"parts\": [{\"type\": \"tool_call_response\",
      \"id\": \"c1\", \"response\": \"rain\"}]}]",
    "gen_ai.output.messages": [{"role": "assistant", "finish_reason": "stop", "parts": [
      {"type": "reasoning", "content": "hm"}, {"type": "text", "content": "Rain."}]}],
    "gen_ai.tool.definitions": "[{\"type\": \"function\", \"name\": \"weather\", \"parameters\": {}}]"})");
  EXPECT_EQ(row["operation"], "chat");
  EXPECT_EQ(row["provider"], "openai");
  EXPECT_EQ(row["model"], "gpt-x");
  EXPECT_EQ(row["session"], "s1");
  EXPECT_EQ(row["max_tokens"], 50);
  EXPECT_EQ(row["sampling"], R"({"stop":["a"],"temperature":0.5})");
  EXPECT_EQ(row["prompt_tokens"], 10);
  EXPECT_EQ(row["cached_tokens"], 4);
  EXPECT_EQ(row["answer_tokens"], 20);
  EXPECT_EQ(row["finish"], "tool_calls");
  EXPECT_EQ(row["answer"], "Rain.");
  EXPECT_EQ(row["reasoning"], "hm");
  EXPECT_EQ(Input(row), json::parse(R"({"messages": [{"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather?"}, {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function",
     "function": {"name": "weather", "arguments": "{\"city\":\"Paris\"}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "rain"}],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]})"));
}

TEST(SpanRows, GenAiEvents) {
  const json row = RowOf(R"({"gen_ai.system": "openai"})", R"([
    {"name": "gen_ai.system.message", "attributes": {"content": "Be brief."}},
    {"name": "gen_ai.user.message", "attributes": {"gen_ai.event.content": "{\"content\": \"Hi\"}"}},
    {"name": "gen_ai.choice", "attributes": {"index": 0, "finish_reason": "stop",
      "message": "{\"role\": \"assistant\", \"content\": \"Hello\"}"}}])");
  EXPECT_EQ(
      Input(row)["messages"],
      json::parse(R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])"));
  EXPECT_EQ(row["answer"], "Hello");
  EXPECT_EQ(row["finish"], "stop");
  EXPECT_EQ(row["provider"], "openai");
  const json older = RowOf("{}", R"([{"name": "gen_ai.content.prompt", "attributes": {"gen_ai.prompt": "Hi"}},
    {"name": "gen_ai.content.completion", "attributes": {"gen_ai.completion": "Hello"}}])");
  EXPECT_EQ(Input(older)["messages"], json::parse(R"([{"role": "user", "content": "Hi"}])"));
  EXPECT_EQ(older["answer"], "Hello");
}

TEST(SpanRows, OpenInference) {
  const json row = RowOf(R"({"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.provider": "p",
    "llm.token_count.prompt": 3, "llm.token_count.completion": 4, "llm.token_count.prompt_details.cache_read": 1,
    "llm.invocation_parameters": "{\"temperature\": 0, \"max_tokens\": 7}", "session.id": "s", "user.id": "u",
    "llm.cost.total": 0.25, "input.value": "{\"messages\": []}", "output.value": "{}",
    "llm.input_messages.10.message.role": "user", "llm.input_messages.10.message.content": "last",
    "llm.input_messages.2.message.role": "user",
    "llm.input_messages.2.message.contents.0.message_content.type": "text",
    "llm.input_messages.2.message.contents.0.message_content.text": "What is it?",
    "llm.input_messages.2.message.contents.1.message_content.type": "image",
    "llm.input_messages.2.message.contents.1.message_content.image.image.url": "http://x/y.png",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c1",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "look",
    "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": "{}",
    "llm.tools.0.tool.json_schema": "{\"type\": \"function\", \"function\": {\"name\": \"look\"}}"})");
  EXPECT_EQ(row["operation"], "chat");
  EXPECT_EQ(row["model"], "m");
  EXPECT_EQ(row["user"], "u");
  EXPECT_EQ(row["cost"], 0.25);
  EXPECT_EQ(row["max_tokens"], 7);
  EXPECT_EQ(row["cached_tokens"], 1);
  EXPECT_EQ(row["answer"], "");
  EXPECT_EQ(row["tool_calls"], R"([{"arguments":"{}","id":"c1","name":"look"}])");
  EXPECT_EQ(Input(row), json::parse(R"({"messages": [
    {"role": "user", "content": [{"type": "text", "text": "What is it?"},
      {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}, {"role": "user", "content": "last"}],
    "tools": [{"type": "function", "function": {"name": "look"}}]})"));
  const json chain =
      RowOf(R"({"openinference.span.kind": "CHAIN", "input.value": "Why?", "output.value": "So."})");
  EXPECT_EQ(chain["input"], "\"Why?\"");
  EXPECT_EQ(chain["answer"], "So.");
  EXPECT_EQ(chain["operation"], "chain");
}

TEST(SpanRows, OpenLLMetry) {
  const json row =
      RowOf(R"({"llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "m",
    "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Weather?", "llm.usage.total_tokens": 12,
    "gen_ai.usage.prompt_tokens": 5, "gen_ai.usage.completion_tokens": 7,
    "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.finish_reason": "tool_calls",
    "gen_ai.completion.0.tool_calls.0.id": "c1", "gen_ai.completion.0.tool_calls.0.name": "weather",
    "gen_ai.completion.0.tool_calls.0.arguments": "{\"city\": \"Paris\"}",
    "llm.request.functions.0.name": "weather", "llm.request.functions.0.description": "d",
    "llm.request.functions.0.parameters": "{\"type\": \"object\"}",
    "traceloop.association.properties.session_id": "s"})");
  EXPECT_EQ(row["prompt_tokens"], 5);
  EXPECT_EQ(row["answer_tokens"], 7);
  EXPECT_EQ(row["finish"], "tool_calls");
  EXPECT_EQ(row["session"], "s");
  EXPECT_EQ(json::parse(row["tool_calls"].get<std::string>())[0]["name"], "weather");
  EXPECT_EQ(Input(row), json::parse(R"({"messages": [{"role": "user", "content": "Weather?"}],
    "tools": [{"type": "function", "function": {"name": "weather", "description": "d",
               "parameters": {"type": "object"}}}]})"));
  const json task = RowOf(R"({"traceloop.span.kind": "tool", "traceloop.entity.input": "{\"args\": [1]}",
    "traceloop.entity.output": "2"})");
  EXPECT_EQ(task["operation"], "execute_tool");
  EXPECT_EQ(task["input"], R"({"args":[1]})");
  EXPECT_EQ(task["answer"], "2");
}

TEST(SpanRows, VercelAi) {
  const json row = RowOf(R"({"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m",
    "ai.model.provider": "p", "ai.settings.maxOutputTokens": 9, "ai.telemetry.metadata.userId": "u",
    "ai.prompt.messages": "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"Weather?\"}]},
      {\"role\": \"assistant\", \"content\": [{\"type\": \"tool-call\", \"toolCallId\": \"c1\",
       \"toolName\": \"weather\", \"input\": {\"city\": \"Paris\"}}]},
      {\"role\": \"tool\", \"content\": [{\"type\": \"tool-result\", \"toolCallId\": \"c1\",
       \"toolName\": \"weather\", \"output\": {\"type\": \"text\", \"value\": \"rain\"}}]}]",
    "ai.prompt.tools": ["{\"type\": \"function\", \"name\": \"weather\", \"inputSchema\": {}}"],
    "ai.response.text": "Rain.", "ai.response.finishReason": "stop", "ai.response.msToFirstChunk": 250,
    "ai.response.toolCalls": "[{\"toolCallId\": \"c2\", \"toolName\": \"weather\", \"input\": \"{}\"}]",
    "ai.usage.inputTokens": 3, "ai.usage.outputTokens": 4})");
  EXPECT_EQ(row["operation"], "chat");
  EXPECT_EQ(row["model"], "m");
  EXPECT_EQ(row["user"], "u");
  EXPECT_EQ(row["max_tokens"], 9);
  EXPECT_EQ(row["first_token_seconds"], 0.25);
  EXPECT_EQ(row["answer"], "Rain.");
  EXPECT_EQ(row["tool_calls"], R"([{"arguments":"{}","id":"c2","name":"weather"}])");
  const json input = Input(row);
  ASSERT_EQ(input["messages"].size(), 3U);
  EXPECT_EQ(input["messages"][1]["tool_calls"][0]["function"]["arguments"], R"({"city":"Paris"})");
  EXPECT_EQ(input["messages"][2]["tool_call_id"], "c1");
  EXPECT_EQ(input["tools"][0]["function"]["name"], "weather");
  const json outer = RowOf(
      R"({"ai.operationId": "ai.generateText", "ai.prompt": "{\"system\": \"S\", \"prompt\": \"Hi\"}"})");
  EXPECT_EQ(outer["operation"], "invoke_agent");
  EXPECT_EQ(Input(outer)["messages"],
            json::parse(R"([{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}])"));
}

TEST(SpanRows, ErrorsAreThoseOfTheStatus) {
  Span span;
  span.events = json::parse(R"([{"name": "exception", "attributes": {"exception.message": "no disk"}}])");
  EXPECT_FALSE(Made(span).contains("error"));  // it was caught
  span.status = 2;
  EXPECT_EQ(Made(span)["error"], "no disk");
  EXPECT_EQ(Made(span)["finish"], "error");
  span.message = "failed";
  EXPECT_EQ(Made(span)["error"], "failed");
}

// Names and values that nobody would choose, but who means harm.
TEST(SpanRows, HostileAttributesDoNoHarm) {
  std::string dots = "gen_ai.prompt.";
  for (int i = 0; i < 100'000; ++i) dots += "0.";
  Span span;
  span.attributes = {{dots, 1},
                     {"gen_ai.prompt.0", 5},
                     {"llm.input_messages.99999999999.message.content", "x"},
                     {"llm.input_messages.0.message.tool_calls", std::string(10'000, '[')},
                     {"gen_ai.output.messages", json::array({1, nullptr, json::array({json::array()})})},
                     {"gen_ai.usage.input_tokens", "many"},
                     {"gen_ai.usage.output_tokens", 1e300},
                     {"gen_ai.response.finish_reasons", json::array()},
                     {"llm.tools.0.tool.json_schema", "{"},
                     {"gen_ai.operation.name", json::object()},
                     {"ai.response.toolCalls", "[[]]"}};
  const json row = Made(span);
  EXPECT_FALSE(row.contains("prompt_tokens") || row.contains("answer_tokens") || row.contains("operation"));
  ASSERT_OK(ToBatch(TraceColumns(), {row}).status());
}

TEST(SpanRows, MediaLeaveTheTexts) {
  std::string bytes;
  for (int i = 0; i < 9'000; ++i) bytes += static_cast<char>(i * i >> 3);
  const std::string encoded = EncodeBase64(bytes), sum = Sha256Hex(bytes),
                    short_one = EncodeBase64(bytes.substr(0, 300));
  Span span;
  span.attributes = {
      {"picture", "see data:image/png;base64," + encoded + " and data:image/png;base64," + short_one},
      {"nested", {{"list", json::array({encoded})}}},
      {"json", json{{"url", "data:image/png;base64," + encoded}}.dump()},
      {"words", std::string(20'000, 'a')},
      {"hex", Hex(bytes)},
      {"broken", encoded.substr(0, encoded.size() - 3) + "*"}};
  std::vector<json> cut;
  const json row = Made(span, &cut);
  const json attributes = json::parse(row["attributes"].get<std::string>());
  EXPECT_EQ(attributes["picture"], "see media:sha256:" + sum + " and data:image/png;base64," + short_one);
  EXPECT_EQ(attributes["nested"]["list"][0], "media:sha256:" + sum);
  EXPECT_EQ(attributes["json"], R"({"url":"media:sha256:)" + sum + "\"}");
  EXPECT_EQ(attributes["words"], std::string(20'000, 'a'));
  EXPECT_EQ(attributes["hex"], Hex(bytes));
  const json media = json::parse(row["media"].get<std::string>());
  ASSERT_EQ(media.size(), cut.size());
  bool found = false;
  for (size_t i = 0; i < cut.size(); ++i) {
    const auto& kept = cut[i]["data"].get_binary();
    EXPECT_EQ(Sha256Hex({reinterpret_cast<const char*>(kept.data()), kept.size()}), cut[i]["sha256"]);
    EXPECT_EQ(media[i]["sha256"], cut[i]["sha256"]);
    EXPECT_EQ(media[i]["bytes"], kept.size());
    EXPECT_EQ(cut[i]["key"], row["id"]);
    if (cut[i]["sha256"] != sum) continue;
    found = true;
    EXPECT_EQ(cut[i]["format"], "image/png");
    EXPECT_EQ(cut[i]["kind"], "image");
  }
  EXPECT_TRUE(found);
  ASSERT_OK(ToBatch(MediaColumns(), cut).status());
}

TEST(SpanRows, ARecordIsItsSpans) {
  const std::string body = R"({"resourceSpans": [{"scopeSpans": [{"spans": [
    {"traceId": "0123456789abcdef0123456789abcdef", "spanId": "00f067aa0ba902b7", "name": "a\nb"}]}]}]})";
  std::vector<json> rows, media;
  ASSERT_TRUE(AddSpans(SpansRecord({OtlpFormat::kJson, 7, "k", "line\nbreak", "c"}, body), &rows, &media));
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0]["name"], "a\nb");
  EXPECT_EQ(rows[0]["time"], 7);
  EXPECT_EQ(rows[0]["key_name"], "line\nbreak");
  for (const char* bad : {"", "\n", "{}", "{}\n\xff", "[]\n", "x\ny"})
    EXPECT_FALSE(AddSpans(bad, &rows, &media)) << bad;
}

}  // namespace
}  // namespace headrace::trace
