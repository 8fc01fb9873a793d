#include <random>

#include "api/answer.h"
#include "api/call.h"
#include "api/tool_calls.h"
#include "api/writer.h"
#include "schema/json_schema.h"
#include "testing.h"

#include <nlohmann/json.hpp>

namespace headrace::api {
namespace {

using nlohmann::json;

std::string Ids() {
  static int next = 0;
  return "call_" + std::to_string(next++);
}

engine::Delta Piece(std::string text, bool last = false) {
  engine::Delta delta;
  delta.text = std::move(text);
  if (last) delta.finish = engine::Finish::kEnd;
  return delta;
}

// What a stream told, put together again.
model::Message Told(const std::vector<Event>& events) {
  model::Message message;
  for (const Event& event : events) {
    if (event.kind == Event::Kind::kText) message.content += event.text;
    if (event.kind == Event::Kind::kReasoning) message.reasoning += event.text;
    if (event.kind == Event::Kind::kCall) {
      EXPECT_EQ(event.call, message.tool_calls.size());
      message.tool_calls.push_back({"", event.text, ""});
    }
    if (event.kind == Event::Kind::kArguments) message.tool_calls.at(event.call).arguments += event.text;
  }
  return message;
}

void ExpectSame(const model::Message& a, const model::Message& b, const std::string& text) {
  EXPECT_EQ(a.content, b.content) << text;
  ASSERT_EQ(a.tool_calls.size(), b.tool_calls.size()) << text;
  for (size_t i = 0; i < a.tool_calls.size(); ++i) {
    EXPECT_EQ(a.tool_calls[i].name, b.tool_calls[i].name) << text;
    EXPECT_EQ(a.tool_calls[i].arguments, b.tool_calls[i].arguments) << text;
  }
}

TEST(ToolCalls, AreReadFromText) {
  const auto tagged = TaggedCalls();
  const auto one = tagged->Parse(
      "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": "
      "\"}<tool_call>\\\"\"}}\n</tool_call>",
      true);
  EXPECT_EQ(one.content, "Let me see.");
  ASSERT_EQ(one.tool_calls.size(), 1U);
  EXPECT_EQ(one.tool_calls[0].name, "f");
  EXPECT_EQ(json::parse(one.tool_calls[0].arguments), (json{{"a", "}<tool_call>\""}}));
  const auto two = tagged->Parse(
      "<tool_call>{\"arguments\": {}, \"name\": \"g\"}</tool_call>\n"
      "<tool_call>\n{\"name\": \"h\", \"arguments\": {\"x\": [1, 2]}}\n</tool_call>",
      true);
  ASSERT_EQ(two.tool_calls.size(), 2U);
  EXPECT_EQ(two.tool_calls[0].name, "g");
  EXPECT_EQ(two.tool_calls[1].arguments, "{\"x\": [1, 2]}");
  // What is no call is text.
  EXPECT_EQ(tagged->Parse("a <tool_call> b", true).content, "a <tool_call> b");
  EXPECT_EQ(tagged->Parse("plain text ", true).content, "plain text ");
  const auto enforced = EnforcedCalls();
  const auto list =
      enforced->Parse(R"([{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}])", true);
  ASSERT_EQ(list.tool_calls.size(), 2U);
  EXPECT_EQ(list.tool_calls[0].arguments, R"({"a": 1})");
  EXPECT_EQ(enforced->Parse("nothing", true).content, "nothing");
}

// However a text is cut into pieces, what is told of it in all is what the whole text says.
TEST(ToolCalls, StreamsTellWhatTheWholeSays) {
  std::mt19937_64 random(5);
  const std::vector<std::string> parts = {"words ",
                                          "<",
                                          "<tool",
                                          "<tool_call>",
                                          "<tool_call>\n",
                                          "</tool_call>",
                                          "\n",
                                          "{\"name\": \"f\", \"arguments\": {\"k\": \"v \\\" } \"}}",
                                          "{\"name\": \"g\", \"arguments\": {}}",
                                          "{\"name\": ",
                                          "\"x\"",
                                          "[",
                                          "]",
                                          ", ",
                                          "{",
                                          "}",
                                          "é",
                                          "  "};
  for (int round = 0; round < testing::Scaled(20000); ++round) {
    const bool tagged = round % 2 == 0;
    std::string text;
    for (size_t i = random() % 10; i > 0; --i) text += parts[random() % parts.size()];
    const std::shared_ptr<const model::AnswerFormat> format = tagged ? TaggedCalls() : EnforcedCalls();
    Assembler assembler(0, format, Ids);
    std::vector<Event> events;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 7;
      for (Event& event : assembler.Add(Piece(text.substr(at, length)))) events.push_back(std::move(event));
      at += length;
    }
    for (Event& event : assembler.Add(Piece("", true))) events.push_back(std::move(event));
    const model::Message told = Told(events);
    ExpectSame(told, assembler.choice().message, text);
    model::Message whole = format->Parse(text, true);
    for (auto& call : whole.tool_calls)
      if (call.arguments.empty()) call.arguments = "{}";
    // A format may see later that it was no call after all; until then it tells nothing that it takes back.
    EXPECT_TRUE(whole.content.starts_with(told.content) || told.content.starts_with(whole.content)) << text;
    if (whole.tool_calls.size() == told.tool_calls.size()) ExpectSame(told, whole, text);
  }
}

TEST(ToolCalls, PlansHoldAnswersToTheTools) {
  Tools tools;
  tools.list = {
      {"f", "does",
       R"({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "integer"}}})"},
      {"g", "", "{}"}};
  tools.choice = Tools::Choice::kRequired;
  const ToolPlan many = PlanTools(tools, true);
  EXPECT_TRUE(many.instructions.empty());
  const json schema = json::parse(many.structure.text);
  EXPECT_EQ(schema["type"], "array");
  EXPECT_EQ(schema["items"]["anyOf"][0]["properties"]["arguments"]["properties"]["a"]["$ref"], "#/$defs/x");
  EXPECT_TRUE(schema::SchemaGrammar(many.structure.text).ok());
  tools.choice = Tools::Choice::kNamed;
  tools.named = "g";
  EXPECT_EQ(json::parse(PlanTools(tools, false).structure.text)["anyOf"].size(), 1U);
  tools.choice = Tools::Choice::kAuto;
  const ToolPlan free = PlanTools(tools, false);
  EXPECT_EQ(free.structure.kind, engine::Structure::Kind::kTag);
  EXPECT_NE(free.instructions.find("\"name\":\"f\""), std::string::npos);
  EXPECT_EQ(PlanTools(tools, true).structure.kind, engine::Structure::Kind::kNone);
  tools.choice = Tools::Choice::kNone;
  EXPECT_EQ(PlanTools(tools, false).format, nullptr);
}

// What cannot be held is let go where a call is free, and said; refused where the call is enforced or strict.
TEST(ToolCalls, SchemasThatCannotBeHeld) {
  for (const char* parameters :
       {R"({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}})",
        R"({"type": "string", "pattern": "\\p{L}"})", R"({"type": "whatever"})",
        R"({"$ref": "https://example.com/schema"})"}) {
    Tools tools;
    tools.list = {{"odd", "", parameters, false, "tools[0].function.parameters"},
                  {"even", "", R"({"type": "object", "properties": {"n": {"type": "integer"}}})", false,
                   "tools[1].function.parameters"}};
    const ToolPlan plan = PlanTools(tools, false);
    EXPECT_FALSE(plan.fault) << plan.fault->message;
    EXPECT_EQ(plan.loose, std::vector<std::string>{"tools[0].function.parameters"}) << parameters;
    EXPECT_NE(plan.structure.text.find("\"integer\""), std::string::npos)
        << "the other tool is held all the same";
    tools.choice = Tools::Choice::kRequired;
    EXPECT_EQ(PlanTools(tools, false).fault.value_or(Fault{}).param, "tools[0].function.parameters");
    tools.choice = Tools::Choice::kNamed;
    tools.named = "even";
    EXPECT_FALSE(PlanTools(tools, false).fault);
    tools.choice = Tools::Choice::kAuto;
    tools.list[0].strict = true;
    EXPECT_TRUE(PlanTools(tools, true).fault);
  }
}

std::string ParamOf(Dialect dialect, const std::string& body) {
  Call call;
  const auto fault = ParseCall(dialect, body, &call);
  return fault ? fault->param : "no fault";
}

TEST(Calls, OrderOfPropertiesIsKept) {
  const std::string schema =
      R"({"type":"object","properties":{"zeta":{"type":"string"},"alpha":{"type":"integer"},"mid":{"type":"null"}},"required":["zeta","alpha"]})";
  Call call;
  ASSERT_FALSE(ParseCall(
      Dialect::kChat,
      R"({"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {"schema": )" +
          schema + "}}}",
      &call));
  EXPECT_EQ(call.request.structure.text, schema);
  call = {};
  ASSERT_FALSE(ParseCall(
      Dialect::kMessages,
      R"({"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content":
    [{"type": "tool_use", "id": "1", "name": "f", "input": {"z": 1, "a": 2}}]}, {"role": "user", "content": "go on"}],
    "tools": [{"name": "f", "input_schema": )" +
          schema + "}], \"output_config\": {\"format\": {\"type\": \"json_schema\", \"schema\": " + schema +
          "}}}",
      &call));
  EXPECT_EQ(call.tools.list[0].parameters, schema);
  EXPECT_EQ(call.messages[1].tool_calls[0].arguments, R"({"z":1,"a":2})");
  EXPECT_EQ(call.request.structure.text, schema);
}

TEST(Calls, FaultsNameTheirPlace) {
  const std::string hi = R"("messages": [{"role": "user", "content": "x"}])";
  EXPECT_EQ(
      ParamOf(
          Dialect::kChat,
          "{" + hi +
              R"(, "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "any"}}}})"),
      "response_format.json_schema.schema");
  EXPECT_EQ(ParamOf(Dialect::kChat, "{" + hi + R"(, "stop": ["a", ""]})"), "stop[1]");
  EXPECT_EQ(
      ParamOf(Dialect::kMessages, R"({"model": "m", "max_tokens": 1, "stop_sequences": [""], )" + hi + "}"),
      "stop_sequences[0]");
  EXPECT_EQ(ParamOf(Dialect::kResponses, R"({"input": [{"role": "user", "content": 5}]})"),
            "input[0].content");
  EXPECT_EQ(ParamOf(Dialect::kChat,
                    "{" + hi + R"(, "continue_final_message": true, "add_generation_prompt": true})"),
            "continue_final_message");
  EXPECT_EQ(ParamOf(Dialect::kChat, "{" + hi + R"(, "max_tokens": -1})"), "no fault");
  EXPECT_EQ(ParamOf(Dialect::kChat, "{" + hi + R"(, "max_tokens": -2})"), "max_tokens");
  Call call;
  const auto twice = ParseCall(
      Dialect::kChat, R"({"messages": [{"role": "user", "content": "x", "role": "system"}]})", &call);
  ASSERT_TRUE(twice);
  EXPECT_NE(twice->message.find("'messages[0].role' appears twice"), std::string::npos) << twice->message;
}

// Thinking is switched by the server's defaults, and by each call as its API has it.
TEST(Calls, DefaultsGiveWay) {
  Call defaults;
  ASSERT_FALSE(ParseDefaults(
      R"({"top_k": 7, "seed": 3, "max_tokens": 9, "chat_template_kwargs": {"enable_thinking": false}})",
      &defaults));
  const auto read = [&](Dialect dialect, const std::string& body) {
    Call call = defaults;
    const auto fault = ParseCall(dialect, body, &call);
    EXPECT_FALSE(fault) << fault->param << fault->message;
    return call;
  };
  const std::string hi = R"("messages": [{"role": "user", "content": "x"}])";
  const Call plain = read(Dialect::kChat, "{" + hi + "}");
  EXPECT_EQ(plain.request.sampling.top_k, 7);
  EXPECT_TRUE(plain.seeded && plain.request.sampling.seed == 3);
  EXPECT_EQ(plain.request.max_tokens, 9);
  EXPECT_FALSE(plain.render.think);
  EXPECT_TRUE(plain.unknown.empty());
  const Call own = read(Dialect::kChat, "{" + hi + R"(, "top_k": 2, "max_completion_tokens": 4})");
  EXPECT_EQ(own.request.sampling.top_k, 2);
  EXPECT_EQ(own.request.max_tokens, 4);
  EXPECT_EQ(read(Dialect::kCompletions, R"({"prompt": "x"})").request.max_tokens, 9);
  EXPECT_EQ(read(Dialect::kNative, R"({"prompt": "x"})").request.max_tokens, 9);
  EXPECT_EQ(read(Dialect::kNative, R"({"prompt": "x"})").request.sampling.top_k, 7);
  EXPECT_EQ(read(Dialect::kNative, R"({"prompt": "x", "n_predict": -1})").request.max_tokens, -1);
  EXPECT_EQ(read(Dialect::kResponses, R"({"input": "x"})").request.max_tokens, 9);
  for (const auto& [dialect, body] : std::vector<std::pair<Dialect, std::string>>{
           {Dialect::kChat, "{" + hi + R"(, "reasoning_effort": "high"})"},
           {Dialect::kChat, "{" + hi + R"(, "chat_template_kwargs": {"enable_thinking": true}})"},
           {Dialect::kResponses, R"({"input": "x", "reasoning": {"effort": "low"}})"},
           {Dialect::kMessages,
            R"({"model": "m", "max_tokens": 1, "thinking": {"type": "enabled", "budget_tokens": 9}, )" + hi +
                "}"}}) {
    const Call call = read(dialect, body);
    EXPECT_TRUE(call.render.think) << body;
    EXPECT_EQ(call.render.values.at("enable_thinking"), "true") << body;
  }
  const auto none = ParseDefaults(R"({"n": 2})", &defaults);
  ASSERT_TRUE(none);
  EXPECT_EQ(none->param, "n");
}

// Codex and other programs offer tools that only a service has, and send back what these did.
TEST(Calls, ServicesOwnToolsAreLeftOut) {
  Call call;
  const auto fault =
      ParseCall(Dialect::kResponses, R"({"input": [{"type": "message", "role": "user", "content": "x"},
    {"type": "local_shell_call", "id": "l", "call_id": "c1", "status": "completed", "action": {"type": "exec", "command": ["ls"]}},
    {"type": "local_shell_call_output", "id": "l", "call_id": "c1", "output": "a.txt"},
    {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": "*** Begin"},
    {"type": "custom_tool_call_output", "call_id": "c2", "output": "Done"},
    {"type": "web_search_call", "id": "w", "status": "completed"}],
    "tools": [{"type": "local_shell"}, {"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"},
    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}}]})",
                &call);
  ASSERT_FALSE(fault) << fault->param << fault->message;
  EXPECT_EQ(call.tools.list.size(), 1U);
  EXPECT_EQ(call.unknown, (std::vector<std::string>{"input[5]", "tools[0]", "tools[2]", "tools[3]"}));
  ASSERT_EQ(call.messages.size(), 5U);
  EXPECT_EQ(call.messages[1].tool_calls[0].name, "local_shell");
  EXPECT_EQ(call.messages[2].content, "a.txt");
  EXPECT_EQ(call.messages[3].tool_calls[0].arguments, R"({"input":"*** Begin"})");
  call = {};
  ASSERT_FALSE(ParseCall(Dialect::kMessages,
                         R"({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"},
    {"role": "assistant", "content": [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "title": "T", "url": "u"}]},
    {"type": "text", "text": "found"}]}, {"role": "user", "content": "and?"}],
    "tools": [{"type": "web_search_20250305", "name": "web_search"}, {"name": "f", "input_schema": {"type": "object"}}]})",
                         &call));
  EXPECT_EQ(call.tools.list.size(), 1U);
  EXPECT_EQ(call.unknown, std::vector<std::string>{"tools[0]"});
}

TEST(Calls, FieldsAreRead) {
  Call call;
  const auto fault = ParseCall(
      Dialect::kChat,
      R"({"model": "m", "messages": [{"role": "developer", "content": [{"type": "text", "text": "a"},
    {"type": "text", "text": "b"}]}, {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"name": "f",
    "arguments": "{}"}}]}], "temperature": 0.5, "top_p": 0, "top_k": -1, "seed": -1, "stop": "x", "max_tokens": 5,
    "max_completion_tokens": 6, "priority": 2, "deadline": 1.5, "cache_prompt": false, "logit_bias": {"3": -100}, "what": {"is": 1}})",
      &call);
  ASSERT_FALSE(fault) << fault->param << " " << fault->message;
  EXPECT_EQ(call.messages[0].role, "system");
  EXPECT_EQ(call.messages[0].content, "ab");
  EXPECT_EQ(call.messages[1].tool_calls[0].name, "f");
  EXPECT_FLOAT_EQ(call.request.sampling.temperature, 0.5F);
  EXPECT_GT(call.request.sampling.top_p, 0);
  EXPECT_EQ(call.request.max_tokens, 6);
  EXPECT_FALSE(call.seeded);
  EXPECT_EQ(call.request.priority, 2);
  EXPECT_DOUBLE_EQ(call.request.timeout, 1.5);
  EXPECT_FALSE(call.request.reuse);
  EXPECT_EQ(call.request.sampling.logit_bias.size(), 1U);
  EXPECT_EQ(call.unknown, std::vector<std::string>{"what"});
}

// Every byte of a body may be anything: it is read, or refused with a reason.
TEST(Calls, MangledBodiesAreRefusedOrRead) {
  const std::string bodies[] = {
      R"({"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}],"stop":["a"]})",
      R"({"model":"m","max_tokens":3,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1"}]}]})",
      R"({"input":[{"type":"function_call_output","call_id":"c","output":"x"}],"text":{"format":{"type":"text"}}})",
      R"({"prompt":[[1,2],"x"],"logprobs":2,"echo":true})",
      R"({"input":[[1,"a"],"b",{"content":[{"type":"text","text":"c"}]}],"top_k":4,"seed":5})"};
  std::mt19937_64 random(3);
  for (int round = 0; round < testing::Scaled(8000); ++round) {
    std::string body = bodies[round % 5];
    for (size_t i = 1 + random() % 4; i > 0; --i) body[random() % body.size()] = static_cast<char>(random());
    for (const Dialect dialect :
         {Dialect::kChat, Dialect::kMessages, Dialect::kResponses, Dialect::kCompletions, Dialect::kNative}) {
      Call call;
      const auto fault = ParseCall(dialect, body, &call);
      if (fault) {
        EXPECT_EQ(fault->status, 400);
        EXPECT_FALSE(fault->message.empty());
        EXPECT_TRUE(json::accept(OpenAiError(*fault)) && json::accept(AnthropicError(*fault, "id")));
      }
    }
    EmbeddingsCall embeddings;
    EXPECT_TRUE(ParseEmbeddings(body, &embeddings) || !embeddings.inputs.empty()) << body;
    Call defaults;
    (void)ParseDefaults(body, &defaults);
  }
}

TEST(Writer, EveryEventIsJson) {
  for (const Dialect dialect :
       {Dialect::kChat, Dialect::kCompletions, Dialect::kResponses, Dialect::kMessages, Dialect::kNative}) {
    Call call;
    call.dialect = dialect;
    call.prompts = {std::string("p")};
    call.include_usage = true;
    const auto writer =
        Writer::Make(call, {"id\"1", "m", 5, [](model::Token) { return std::string_view("\xff"); }});
    Assembler assembler(0, TakesTexts(dialect) ? nullptr : TaggedCalls(), Ids);
    std::string stream = writer->Begin(3);
    for (const char* text :
         {"he\"llo \xff", "\n<tool_call>{\"name\": \"f\", ", "\"arguments\": {\"a\": 1}}</tool_call>"}) {
      const auto events = assembler.Add(Piece(text));
      stream += writer->Say(assembler.choice(), events, 0);
    }
    const auto events = assembler.Add(Piece("", true));
    stream += writer->Say(assembler.choice(), events, 0);
    stream += writer->EndChoice(assembler.choice());
    stream += writer->End({assembler.choice()});
    int seen = 0;
    for (size_t at = 0; (at = stream.find("data: ", at)) != std::string::npos; ++seen) {
      const size_t end = stream.find("\n\n", at);
      ASSERT_NE(end, std::string::npos);
      const std::string data = stream.substr(at + 6, end - at - 6);
      EXPECT_TRUE(data == "[DONE]" || json::accept(data)) << data;
      at = end;
    }
    EXPECT_GT(seen, 3);
    EXPECT_TRUE(json::accept(writer->Whole({assembler.choice()})));
  }
}

}  // namespace
}  // namespace headrace::api
