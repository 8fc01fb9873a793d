// Anthropic's /v1/messages (docs.anthropic.com/en/api/messages).
#include "api/parse_parts.h"

namespace headrace::api {
namespace {

// One of their messages may hold answers of tools and texts: each becomes a message of ours.
void ReadBlocks(const Json& content, const std::string& at, const std::string& role,
                std::vector<model::Message>* out) {
  if (content.is_string()) {
    out->push_back({role, content.get<std::string>()});
    return;
  }
  if (!content.is_array()) Refuse(at, "must be a string or an array of blocks");
  model::Message message{role, ""};
  bool any = false;
  for (size_t i = 0; i < content.size(); ++i) {
    Fields block(content[i], At(at, i));
    const std::string type = block.NeedText("type");
    if (type == "text") {
      message.content += block.NeedText("text");
      any = true;
    } else if (type == "tool_use" || type == "server_tool_use") {
      message.tool_calls.push_back(
          {block.NeedText("id"), block.NeedText("name"), block.Need("input").dump()});
      any = true;
    } else if (type == "tool_result" || type.ends_with("_tool_result")) {
      model::Message result{"tool", ""};
      if (const Json* inner = block.Find("content"))
        result.content = type == "tool_result" ? ReadContent(*inner, block.PathOf("content")) : inner->dump();
      result.tool_call_id = block.NeedText("tool_use_id");
      out->push_back(std::move(result));
    } else if (type == "thinking") {
      message.reasoning += block.Text("thinking").value_or("");
    } else if (type != "redacted_thinking") {
      Refuse(block.PathOf("type"), "is '" + type + "'; this model reads text");
    }
  }
  if (any || content.empty()) out->push_back(std::move(message));
}

void ReadChoice(Fields* body, Call* call) {
  using Choice = Tools::Choice;
  const Json* choice = body->Object("tool_choice");
  if (choice == nullptr) return;
  Fields inner(*choice, "tool_choice");
  const std::string type = inner.NeedText("type");
  if (type == "tool") {
    call->tools.choice = Choice::kNamed;
    call->tools.named = inner.NeedText("name");
  } else if (type == "any") {
    call->tools.choice = Choice::kRequired;
  } else if (type == "none") {
    call->tools.choice = Choice::kNone;
  } else if (type != "auto") {
    Refuse("tool_choice.type", "is '" + type + "'; there are auto, any, tool and none");
  }
  call->tools.parallel = !inner.Flag("disable_parallel_tool_use", false);
  CheckChoice("tool_choice", "tool_choice.name", call->tools);
}

// {"type": "json_schema", "schema": …}
void ReadFormat(const Json& format, const std::string& at, Call* call) {
  Fields inner(format, at);
  if (const std::string type = inner.NeedText("type"); type != "json_schema")
    Refuse(inner.PathOf("type"), "is '" + type + "'; there is json_schema");
  SetSchema(inner.Need("schema"), inner.PathOf("schema"), call);
}

}  // namespace

void ParseMessages(const Json& json, Call* call) {
  Fields body(json, "");
  call->model = body.NeedText("model");
  const Json& messages = body.Need("messages");
  if (!messages.is_array() || messages.empty()) Refuse("messages", "must be an array, not empty");
  if (const Json* system = body.Find("system"))
    call->messages.push_back({"system", ReadContent(*system, "system")});
  for (size_t i = 0; i < messages.size(); ++i) {
    Fields message(messages[i], At("messages", i));
    const std::string role = message.NeedText("role");
    if (role != "user" && role != "assistant" && role != "system")
      Refuse(message.PathOf("role"), "is '" + role + "'; there are user and assistant");
    ReadBlocks(message.Need("content"), message.PathOf("content"), role, &call->messages);
  }
  if (messages.back()["role"] == "assistant") call->render.reply = false;  // the answer goes on with it
  const auto most = ReadMost(&body, "max_tokens");
  if (!most && !call->count) Refuse("max_tokens", "is missing");
  call->request.max_tokens = most.value_or(0);
  ReadSampling(&body, call);
  call->request.stops = ReadStops(&body, "stop_sequences");
  call->stream = body.Flag("stream", false);
  if (const Json* tools = body.Array("tools")) {
    for (size_t i = 0; i < tools->size(); ++i) {
      if (Fields((*tools)[i], At("tools", i)).Text("type").value_or("custom") == "custom") {
        call->tools.list.push_back(ReadFunction((*tools)[i], At("tools", i), "input_schema"));
      } else {  // a service's own (web_search_20250305): it is not offered
        call->unknown.push_back(At("tools", i));
      }
    }
  }
  ReadChoice(&body, call);
  if (const Json* thinking = body.Object("thinking")) {
    Fields inner(*thinking, "thinking");
    SetThinking(inner.NeedText("type") != "disabled", &call->render);  // enabled, or adaptive
    inner.Find("budget_tokens");
  }
  if (const Json* metadata = body.Object("metadata")) {
    Fields inner(*metadata, "metadata");
    call->user = inner.Text("user_id").value_or("");
  }
  if (const Json* config = body.Object("output_config")) {
    Fields inner(*config, "output_config");
    if (const Json* format = inner.Object("format")) ReadFormat(*format, "output_config.format", call);
    inner.Find("effort");
    inner.Rest(&call->unknown);
  }
  if (const Json* format = body.Object("output_format"))
    ReadFormat(*format, "output_format", call);  // the beta's
  ReadStructures(&body, call);
  if (call->tools.enforced() && call->request.structure.kind != engine::Structure::Kind::kNone)
    Refuse("tool_choice", "asks for a call, and " + call->structure_at + " for something else");
  ReadTemplate(&body, &call->render);
  if (messages.back()["role"] == "assistant") call->render.reply = false;
  for (const char* name : {"service_tier", "container", "context_management", "mcp_servers", "cache_control"})
    body.Find(name);
  Json said = {{"messages", messages}};
  for (const char* name : {"system", "tools"})
    if (json.contains(name)) said[name] = json.at(name);
  call->input = said.dump();
  body.Rest(&call->unknown);
}

}  // namespace headrace::api
