// The bodies of OpenAI's APIs (platform.openai.com/docs/api-reference), and the smaller ones.
#include <algorithm>

#include "api/parse_parts.h"
#include "base/ordered_json.h"

namespace headrace::api {
namespace {

// Told and kept by OpenAI's service; they change nothing here.
void Skip(Fields* body, std::initializer_list<const char*> names) {
  for (const char* name : names) body->Find(name);
}

void ReadStream(Fields* body, Call* call) {
  call->stream = body->Flag("stream", false);
  if (const Json* options = body->Object("stream_options")) {
    Fields inner(*options, "stream_options");
    call->include_usage = inner.Flag("include_usage", false);
    inner.Find("include_obfuscation");
    inner.Rest(&call->unknown);
    if (!call->stream) Refuse("stream_options", "is only for streams: set stream to true");
  }
}

void ReadFormat(const Json& format, const std::string& at, bool nested, Call* call) {
  Fields outer(format, at);
  const std::string type = outer.NeedText("type");
  if (type == "text") return;
  if (type == "json_object") {
    const Json* schema = outer.Find("schema");  // llama.cpp's extension
    if (schema != nullptr) return SetSchema(*schema, outer.PathOf("schema"), call);
    call->request.structure = {engine::Structure::Kind::kJson, ""};
    call->structure_at = at;
    return;
  }
  if (type != "json_schema")
    Refuse(outer.PathOf("type"), "is '" + type + "'; there are text, json_object and json_schema");
  if (!nested) return SetSchema(outer.Need("schema"), outer.PathOf("schema"), call);
  Fields inner(outer.Need("json_schema"), outer.PathOf("json_schema"));
  SetSchema(inner.Need("schema"), inner.PathOf("schema"), call);
}

}  // namespace

void ParseChat(const Json& json, Call* call) {
  Fields body(json, "");
  call->model = body.Text("model").value_or("");
  call->messages = ReadMessages(body.Need("messages"), "messages");
  ReadSampling(&body, call);
  ReadStream(&body, call);
  const auto old = ReadMost(&body, "max_tokens");
  const auto most = ReadMost(&body, "max_completion_tokens");
  if (most || old) call->request.max_tokens = most ? *most : *old;
  call->request.stops = ReadStops(&body, "stop");
  const bool logprobs = body.Flag("logprobs", false);
  const auto top = body.Integer("top_logprobs", 0, 20);
  if (top && *top > 0 && !logprobs) Refuse("top_logprobs", "needs logprobs to be true");
  if (logprobs) call->request.top_logprobs = static_cast<int>(top.value_or(0));
  if (const Json* format = body.Object("response_format")) ReadFormat(*format, "response_format", true, call);
  ReadStructures(&body, call);
  ReadTools(&body, call);
  if (call->tools.enforced() && call->request.structure.kind != engine::Structure::Kind::kNone)
    Refuse("tool_choice", "asks for a call, and " + call->structure_at + " for something else");
  ReadEffort(body.Text("reasoning_effort"), call);
  ReadTemplate(&body, &call->render);
  call->give_reasoning = body.Flag("include_reasoning", true);
  Skip(&body, {"store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "verbosity",
               "prediction", "prompt_cache_retention"});
  if (const Json* kinds = body.Array("modalities"))
    for (size_t i = 0; i < kinds->size(); ++i)
      if ((*kinds)[i] != "text") Refuse(At("modalities", i), "must be text: this server writes nothing else");
  call->input = Json{{"messages", json.at("messages")}}.dump();
  if (!call->tools.list.empty())
    call->input = Json{{"messages", json.at("messages")}, {"tools", json.at("tools")}}.dump();
  body.Rest(&call->unknown);
}

void ParseCompletions(const Json& json, Call* call) {
  Fields body(json, "");
  call->model = body.Text("model").value_or("");
  call->prompts = ReadPrompts(body.Need("prompt"), "prompt");
  ReadSampling(&body, call);
  ReadStream(&body, call);
  if (const auto most = ReadMost(&body, "max_tokens")) {
    call->request.max_tokens = *most;
  } else if (!call->defaulted.contains("max_tokens")) {
    call->request.max_tokens = 16;  // OpenAI's default
  }
  call->request.stops = ReadStops(&body, "stop");
  if (const auto top = body.Integer("logprobs", 0, 100)) call->request.top_logprobs = static_cast<int>(*top);
  call->echo = body.Flag("echo", false);
  if (const auto top = body.Integer("prompt_logprobs", 0, 100))
    call->request.prompt_logprobs = static_cast<int>(*top);
  if (call->echo && call->request.top_logprobs >= 0)
    call->request.prompt_logprobs = call->request.top_logprobs;
  if (const auto suffix = body.Text("suffix"); suffix && !suffix->empty())
    Refuse("suffix", "is not supported: this server completes texts at their end");
  if (const auto best = body.Integer("best_of", engine::kAnswers); best && *best != call->n)
    Refuse("best_of", "must equal n: every answer is given");
  call->special = body.Flag("add_special_tokens", true);
  call->parse = body.Flag("parse_special", true);
  if (const Json* format = body.Object("response_format")) ReadFormat(*format, "response_format", true, call);
  ReadStructures(&body, call);
  call->input = Json{{"prompt", json.at("prompt")}}.dump();
  body.Rest(&call->unknown);
}

namespace {

// Items of /v1/responses: messages, calls and what they gave. Calls of a service's own tools stay in the
// history as calls; what says nothing to a model (a search's progress) is left out and told.
class Items {
 public:
  explicit Items(Call* call) : call_(*call) {}

  std::vector<model::Message> Read(const Json& input) {
    if (input.is_string()) return {{"user", input.get<std::string>()}};
    if (!input.is_array()) Refuse("input", "must be a string or an array of items");
    for (size_t i = 0; i < input.size(); ++i) ReadOne(input[i], At("input", i));
    if (messages_.empty()) Refuse("input", "is empty: there is nothing to answer");
    return std::move(messages_);
  }

 private:
  void ReadOne(const Json& json, const std::string& at) {
    Fields item(json, at);
    const std::string type = item.Text("type").value_or("message");
    if (type == "message") {
      messages_.push_back(ReadMessage(json, at));
    } else if (type == "function_call") {
      Called({item.NeedText("call_id"), item.NeedText("name"), item.NeedText("arguments")});
    } else if (type == "custom_tool_call") {
      Called(
          {item.NeedText("call_id"), item.NeedText("name"), Json{{"input", item.NeedText("input")}}.dump()});
    } else if (type == "local_shell_call") {
      Called({item.NeedText("call_id"), "local_shell", item.Need("action").dump()});
    } else if (type == "function_call_output" || type == "custom_tool_call_output" ||
               type == "local_shell_call_output") {
      const Json& output = item.Need("output");
      model::Message message{"tool", output.is_string() || output.is_array()
                                         ? ReadContent(output, item.PathOf("output"))
                                         : output.dump()};
      message.tool_call_id = item.Text("call_id").value_or(item.Text("id").value_or(""));
      messages_.push_back(std::move(message));
    } else if (type != "reasoning") {
      call_.unknown.push_back(at);
    }
  }
  void Called(model::ToolCall made) {
    if (messages_.empty() || messages_.back().role != "assistant") messages_.push_back({"assistant", ""});
    messages_.back().tool_calls.push_back(std::move(made));
  }

  Call& call_;
  std::vector<model::Message> messages_;
};

// Tools as they are given back: a function's fields that a client may leave out are told.
Json WholeTools(Json tools) {
  for (Json& tool : tools) {
    if (tool.value("type", "") != "function") continue;
    for (const char* name : {"description", "parameters"})
      if (!tool.contains(name)) tool[name] = nullptr;
    if (!tool.contains("strict") || tool["strict"].is_null()) tool["strict"] = false;
  }
  return tools;
}

void ReadResponseTools(Fields* body, Call* call) {
  using Choice = Tools::Choice;
  if (const Json* tools = body->Array("tools")) {
    for (size_t i = 0; i < tools->size(); ++i) {
      Fields tool((*tools)[i], At("tools", i));
      if (tool.NeedText("type") != "function") {  // a service's own: it is not offered
        call->unknown.push_back(At("tools", i));
        continue;
      }
      call->tools.list.push_back(ReadFunction((*tools)[i], At("tools", i), "parameters"));
    }
    call->given_back["tools"] = WholeTools(*tools).dump();
  }
  call->tools.parallel = body->Flag("parallel_tool_calls", true);
  if (const Json* choice = body->Find("tool_choice")) {
    call->given_back["tool_choice"] = choice->dump();
    if (choice->is_object() && choice->value("type", Json()) == "allowed_tools") {
      AllowTools(*choice, "tool_choice", false, &call->tools);
    } else if (choice->is_object()) {
      Fields named(*choice, "tool_choice");
      call->tools.choice = Choice::kNamed;
      call->tools.named = named.NeedText("name");
    } else if (*choice == "auto" || *choice == "none" || *choice == "required") {
      call->tools.choice = *choice == "auto"   ? Choice::kAuto
                           : *choice == "none" ? Choice::kNone
                                               : Choice::kRequired;
    } else {
      Refuse("tool_choice", "must be auto, none, required or an object that names a function");
    }
    CheckChoice("tool_choice", "tool_choice.name", call->tools);
  }
}

}  // namespace

void ParseResponses(const Json& json, Call* call) {
  Fields body(json, "");
  call->model = body.Text("model").value_or("");
  call->messages = Items(call).Read(body.Need("input"));
  if (const auto text = body.Text("instructions")) {
    call->messages.insert(call->messages.begin(), {"system", *text});
    call->given_back["instructions"] = Json(*text).dump();
  }
  call->previous = body.Text("previous_response_id").value_or("");
  if (!call->previous.empty()) call->given_back["previous_response_id"] = Json(call->previous).dump();
  if (body.Find("conversation") != nullptr)
    Refuse("conversation", "is not supported: go on with previous_response_id, or send the whole input");
  call->store = body.Flag("store", true);
  if (body.Flag("background", false)) Refuse("background", "is not supported");
  ReadSampling(&body, call);
  call->stream = body.Flag("stream", false);
  body.Find("stream_options");
  if (const auto most = ReadMost(&body, "max_output_tokens")) call->request.max_tokens = *most;
  if (const Json* text = body.Object("text")) {
    Fields inner(*text, "text");
    if (const Json* format = inner.Object("format")) ReadFormat(*format, "text.format", false, call);
    inner.Find("verbosity");
    call->given_back["text"] = text->dump();
    inner.Rest(&call->unknown);
  }
  if (const Json* reasoning = body.Object("reasoning")) {
    Fields inner(*reasoning, "reasoning");
    ReadEffort(inner.Text("effort"), call);
    inner.Find("summary");
    inner.Rest(&call->unknown);
    call->given_back["reasoning"] = reasoning->dump();
  }
  ReadStructures(&body, call);
  ReadResponseTools(&body, call);
  if (call->tools.enforced() && call->request.structure.kind != engine::Structure::Kind::kNone)
    Refuse("tool_choice", "asks for a call, and " + call->structure_at + " for something else");
  if (const auto top = body.Integer("top_logprobs", 0, 20); top && *top > 0)
    call->request.top_logprobs = static_cast<int>(*top);
  if (const Json* metadata = body.Object("metadata")) call->given_back["metadata"] = metadata->dump();
  for (const char* name : {"safety_identifier", "prompt_cache_key", "max_tool_calls"})
    if (const Json* value = body.Find(name)) call->given_back[name] = value->dump();
  Skip(&body, {"include", "service_tier", "truncation", "prompt_cache_retention"});
  call->input = Json{{"input", json.at("input")}}.dump();
  body.Rest(&call->unknown);
}

std::optional<Fault> Continue(std::string_view input, std::string_view response, Call* call) {
  const auto read = [](std::string_view text) {
    auto json = ParseOrderedJson(text);
    return json.ok() ? std::move(*json) : Json();
  };
  const Json before = read(input), told = read(response), now = read(call->input);
  if (!before.contains("input") || !told.contains("output") || !now.contains("input"))
    return Fault::Field("previous_response_id", "names a response that cannot be read again");
  Json all = Json::array();
  const auto add = [&](const Json& items) {
    if (items.is_array()) {
      all.insert(all.end(), items.begin(), items.end());
    } else {
      all.push_back({{"type", "message"}, {"role", "user"}, {"content", items}});
    }
  };
  add(before["input"]);
  add(told["output"]);
  try {
    std::vector<model::Message> messages = Items(call).Read(all);
    add(now["input"]);
    const bool instructed = call->given_back.contains("instructions");
    call->messages.insert(call->messages.begin() + (instructed ? 1 : 0), messages.begin(), messages.end());
  } catch (const Fault& fault) {
    return Fault::Field("previous_response_id",
                        "cannot be gone on with: " + fault.param + " " + fault.message);
  }
  call->input = Json{{"input", all}}.dump();
  return std::nullopt;
}

std::optional<Fault> ParseCall(Dialect dialect, std::string_view body, Call* call) {
  call->dialect = dialect;
  return Reading(body, [&](const Json& json) {
    switch (dialect) {
      case Dialect::kChat:
        ParseChat(json, call);
        break;
      case Dialect::kCompletions:
        ParseCompletions(json, call);
        break;
      case Dialect::kResponses:
        ParseResponses(json, call);
        break;
      case Dialect::kNative:
        ParseNative(json, call);
        break;
      case Dialect::kMessages:
        ParseMessages(json, call);
        break;
    }
  });
}

std::optional<Fault> ParseEmbeddings(std::string_view text, EmbeddingsCall* call) {
  return Reading(text, [&](const Json& json) {
    Fields body(json, "");
    call->model = body.Text("model").value_or("");
    const Json& input = body.Need("input");
    call->inputs = ReadPrompts(input, "input");
    call->listed = input.is_array() &&
                   std::none_of(input.begin(), input.end(), [](const Json& i) { return i.is_number(); });
    call->dimensions = static_cast<int>(body.Integer("dimensions", 1, 1 << 20).value_or(0));
    const std::string format = body.Text("encoding_format").value_or("float");
    if (format != "float" && format != "base64")
      Refuse("encoding_format", "is '" + format + "'; there are float and base64");
    call->base64 = format == "base64";
    call->cut = ReadCut(&body, body.Flag("truncate", false) ? -1 : 0);
    ReadDeadline(&body, &call->timeout);
    call->user = body.Text("user").value_or("");
    body.Rest(&call->unknown);
  });
}

std::optional<Fault> ParseTokenize(std::string_view text, bool back, TokenizeCall* call) {
  return Reading(text, [&](const Json& json) {
    Fields body(json, "");
    call->model = body.Text("model").value_or("");
    if (back) {
      const Json* tokens = body.Array("tokens");
      if (tokens == nullptr) Refuse("tokens", "is missing");
      call->tokens = ReadTokens(*tokens, "tokens");
      return;
    }
    if (const Json* messages = body.Find("messages")) {
      call->messages = ReadMessages(*messages, "messages");
      ReadTemplate(&body, &call->render);
      Call tools;
      ReadTools(&body, &tools);
      call->tools = std::move(tools.tools);
    } else if (const auto content = body.Text("content")) {
      call->text = *content;  // llama.cpp's name,
      call->text_at = "content";
      call->special = false;  // and its default
    } else {
      call->text = body.NeedText("prompt");
    }
    call->special = body.Flag("add_special_tokens", body.Flag("add_special", call->special));
    call->parse = body.Flag("parse_special", true);
    call->pieces = body.Flag("return_token_strs", false);
    call->with_pieces = body.Flag("with_pieces", false);
  });
}

}  // namespace headrace::api
