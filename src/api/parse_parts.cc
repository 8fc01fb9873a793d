#include "api/parse_parts.h"

#include <limits>

#include "base/limits.h"
#include "engine/sampling_ranges.h"
#include "schema/json_schema.h"

namespace headrace::api {
namespace {

constexpr double kDay = 86400;
constexpr int64_t kMostAnswer = 1 << 30;
constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();

void SetStructure(engine::Structure::Kind kind, std::string text, const std::string& at, Call* call) {
  if (call->request.structure.kind != engine::Structure::Kind::kNone)
    Refuse(at, "asks for a structure, and another field does too");
  call->request.structure = {kind, std::move(text)};
  call->structure_at = at;
}

// Alternatives as a regular expression.
std::string GuidedChoice(const Json& choices, const std::string& at) {
  if (!choices.is_array() || choices.empty()) Refuse(at, "must be an array of strings, not empty");
  std::string text;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (!choices[i].is_string()) Refuse(At(at, i), "must be a string");
    text += i > 0 ? "|" : "(";
    for (const char c : choices[i].get<std::string>()) {
      if (std::string_view("\\^$.|?*+()[]{}/").find(c) != std::string_view::npos) text += '\\';
      text += c;
    }
  }
  return text + ")";
}

void ReadBias(const Json& bias, const std::string& at, engine::Sampling* sampling) {
  if (bias.size() > 1024) Refuse(at, "has more than 1,024 tokens");
  for (const auto& [name, value] : bias.items()) {
    char* end = nullptr;
    const long token = std::strtol(name.c_str(), &end, 10);
    if (name.empty() || *end != '\0' || token < 0 || token > kMostTokens)
      Refuse(at + "." + name, "is not a token's number");
    if (!value.is_number()) Refuse(at + "." + name, "must be a number");
    const auto amount = value.get<double>();
    if (!engine::kBiases.Holds(amount)) Refuse(at + "." + name, "must be from -100 to 100");
    sampling->logit_bias.emplace_back(static_cast<model::Token>(token), static_cast<float>(amount));
  }
}

void ReadCalls(const Json& calls, const std::string& at, model::Message* message) {
  if (!calls.is_array()) Refuse(at, "must be an array");
  for (size_t i = 0; i < calls.size(); ++i) {
    Fields call(calls[i], At(at, i));
    const std::string place = call.PathOf("function");
    Fields function(call.Need("function"), place);
    model::ToolCall out;
    out.id = call.Text("id").value_or("");
    out.name = function.NeedText("name");
    const Json* arguments = function.Find("arguments");
    out.arguments = arguments == nullptr     ? "{}"
                    : arguments->is_string() ? arguments->get<std::string>()
                                             : arguments->dump();
    message->tool_calls.push_back(std::move(out));
  }
}

}  // namespace

void ReadDeadline(Fields* body, double* timeout) {
  if (const auto deadline = body->Number("deadline", 0.001, 7 * kDay)) *timeout = *deadline;
}

void ReadSampling(Fields* body, Call* call) {
  engine::Request& request = call->request;
  engine::Sampling& s = request.sampling;
  const auto number = [&](const char* name, const engine::Range& range, float* to) {
    if (const auto value = body->Number(name, range.least, range.most)) *to = static_cast<float>(*value);
  };
  number("temperature", engine::kTemperatures, &s.temperature);
  number("top_p", engine::kProbabilities, &s.top_p);
  number("min_p", engine::kProbabilities, &s.min_p);
  number("frequency_penalty", engine::kOpenAiPenalties, &s.frequency_penalty);
  number("presence_penalty", engine::kOpenAiPenalties, &s.presence_penalty);
  number("repetition_penalty", engine::kRepetitionPenalties, &s.repetition_penalty);
  number("repeat_penalty", engine::kRepetitionPenalties, &s.repetition_penalty);  // llama.cpp's name
  if (const auto k = body->Integer("top_k", -1, kMostTokens))
    s.top_k = static_cast<int32_t>(std::max<int64_t>(*k, 0));
  if (s.top_p == 0) s.top_p = 1e-6F;  // clients send 0 for "the likeliest"
  if (const auto seed =
          body->Integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max())) {
    call->seeded = *seed != -1;  // llama.cpp's "any"
    s.seed = static_cast<uint64_t>(*seed);
  }
  if (const Json* bias = body->Object("logit_bias")) ReadBias(*bias, body->PathOf("logit_bias"), &s);
  request.ignore_end = body->Flag("ignore_eos", false);
  request.reuse = body->Flag("cache_prompt", true);
  request.lookup = body->Flag("lookup", true);
  if (const auto priority = body->Integer("priority", engine::kPriorities))
    request.priority = static_cast<int>(*priority);
  ReadDeadline(body, &request.timeout);
  call->n = static_cast<int>(body->Integer("n", engine::kAnswers).value_or(1));
  call->user = body->Text("user").value_or("");
  ReadPeers(body, call);
}

void SetSchema(const Json& schema, const std::string& at, Call* call) {
  if (!schema.is_object() && !schema.is_boolean()) Refuse(at, "must be a JSON schema: an object");
  SetSchemaText(schema.dump(), at, call);
}

void SetSchemaText(std::string text, const std::string& at, Call* call) {
  if (const auto grammar = schema::SchemaGrammar(text); !grammar.ok())
    Refuse(at, grammar.status().ToString());
  SetStructure(engine::Structure::Kind::kSchema, std::move(text), at, call);
}

void ReadStructures(Fields* body, Call* call) {
  using Kind = engine::Structure::Kind;
  const auto read = [&](Fields* from, const char* json, const char* regex, const char* choice,
                        const char* grammar) {
    if (const Json* schema = from->Find(json)) {
      if (schema->is_string()) {
        SetSchemaText(schema->get<std::string>(), from->PathOf(json), call);
      } else {
        SetSchema(*schema, from->PathOf(json), call);
      }
    }
    if (const auto text = from->Text(regex)) SetStructure(Kind::kRegex, *text, from->PathOf(regex), call);
    if (const Json* list = from->Find(choice))
      SetStructure(Kind::kRegex, GuidedChoice(*list, from->PathOf(choice)), from->PathOf(choice), call);
    if (const auto text = from->Text(grammar))
      SetStructure(Kind::kGrammar, *text, from->PathOf(grammar), call);
  };
  read(body, "guided_json", "guided_regex", "guided_choice", "guided_grammar");
  if (const Json* outer = body->Object("structured_outputs")) {
    Fields inner(*outer, body->PathOf("structured_outputs"));
    read(&inner, "json", "regex", "choice", "grammar");
    if (inner.Flag("json_object", false)) SetStructure(Kind::kJson, "", inner.PathOf("json_object"), call);
    inner.Rest(&call->unknown);
  }
  if (const auto grammar = body->Text("grammar"); grammar && !grammar->empty())
    SetStructure(Kind::kGrammar, *grammar, "grammar", call);
  if (const Json* schema = body->Object("json_schema")) SetSchema(*schema, "json_schema", call);
}

std::vector<std::string> ReadStops(Fields* body, const char* name) {
  std::vector<std::string> stops = body->Texts(name);
  if (static_cast<int64_t>(stops.size()) > limits::kMaxStops)
    Refuse(body->PathOf(name), "has " + std::to_string(stops.size()) + " strings; at most " +
                                   std::to_string(limits::kMaxStops) + " are taken");
  const Json* given = body->Find(name);
  for (size_t i = 0; i < stops.size(); ++i) {
    const std::string at = given->is_array() ? At(body->PathOf(name), i) : body->PathOf(name);
    if (stops[i].empty()) Refuse(at, "is empty");
    if (static_cast<int64_t>(stops[i].size()) > limits::kMaxStopBytes)
      Refuse(at, "has " + std::to_string(stops[i].size()) + " bytes; at most " +
                     std::to_string(limits::kMaxStopBytes) + " are taken");
  }
  return stops;
}

std::optional<int32_t> ReadMost(Fields* body, const char* name) {
  const auto most = body->Integer(name, -1, kMostAnswer);
  if (!most) return std::nullopt;
  return static_cast<int32_t>(*most);
}

int ReadCut(Fields* body, int otherwise) {
  const auto most = body->Integer("truncate_prompt_tokens", -1, 1 << 20);
  if (!most) return otherwise;
  if (*most == 0) Refuse("truncate_prompt_tokens", "must be -1 or at least 1; it is 0");
  return static_cast<int>(*most);
}

std::string ReadContent(const Json& content, const std::string& at) {
  if (content.is_null()) return "";
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) Refuse(at, "must be a string or an array of parts");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    if (content[i].is_string()) {
      text += content[i].get<std::string>();
      continue;
    }
    Fields part(content[i], At(at, i));
    const std::string type = part.NeedText("type");
    if (type == "text" || type == "input_text" || type == "output_text") {
      text += part.NeedText("text");
    } else if (type == "refusal") {
      text += part.Text("refusal").value_or("");
    } else {
      Refuse(part.PathOf("type"), "is '" + type + "'; this model reads text");
    }
  }
  return text;
}

model::Message ReadMessage(const Json& json, const std::string& at) {
  Fields fields(json, at);
  model::Message message;
  message.role = fields.NeedText("role");
  if (message.role == "developer") message.role = "system";
  if (message.role == "function") message.role = "tool";
  if (message.role != "system" && message.role != "user" && message.role != "assistant" &&
      message.role != "tool")
    Refuse(fields.PathOf("role"),
           "is '" + message.role + "'; there are system, developer, user, assistant and tool");
  const Json* content = fields.Find("content");
  const Json* calls = fields.Find("tool_calls");
  if (content == nullptr && calls == nullptr && message.role != "assistant")
    Refuse(fields.PathOf("content"), "is missing");
  if (content != nullptr) message.content = ReadContent(*content, fields.PathOf("content"));
  if (calls != nullptr) ReadCalls(*calls, fields.PathOf("tool_calls"), &message);
  message.reasoning = fields.Text("reasoning_content").value_or("");
  message.name = fields.Text("name").value_or("");
  message.tool_call_id = fields.Text("tool_call_id").value_or("");
  return message;
}

std::vector<model::Message> ReadMessages(const Json& messages, const std::string& at) {
  if (!messages.is_array()) Refuse(at, "must be an array");
  if (messages.empty()) Refuse(at, "is empty: there is nothing to answer");
  std::vector<model::Message> out;
  for (size_t i = 0; i < messages.size(); ++i) out.push_back(ReadMessage(messages[i], At(at, i)));
  return out;
}

model::Tool ReadFunction(const Json& function, const std::string& at, const char* schema_name) {
  Fields fields(function, at);
  model::Tool tool;
  tool.name = fields.NeedText("name");
  if (tool.name.empty() || tool.name.size() > 256)
    Refuse(fields.PathOf("name"), "must have 1 to 256 characters");
  tool.description = fields.Text("description").value_or("");
  tool.strict = fields.Flag("strict", false);
  const Json* schema = fields.Object(schema_name);
  tool.at = fields.PathOf(schema_name);
  tool.parameters = schema == nullptr ? R"({"type": "object", "properties": {}})" : schema->dump();
  return tool;
}

void CheckChoice(const std::string& at, const std::string& name_at, const Tools& tools) {
  if (tools.choice == Tools::Choice::kNamed) {
    for (const model::Tool& tool : tools.list)
      if (tool.name == tools.named) return;
    Refuse(name_at, "is '" + tools.named + "', which is not among the tools");
  }
  if (tools.choice == Tools::Choice::kRequired && tools.list.empty())
    Refuse(at, "asks for a call, and there are no tools");
}

void ReadTools(Fields* body, Call* call) {
  using Choice = Tools::Choice;
  if (const Json* tools = body->Array("tools")) {
    for (size_t i = 0; i < tools->size(); ++i) {
      Fields tool((*tools)[i], At("tools", i));
      if (tool.Text("type").value_or("function") != "function") {  // a service's own: it is not offered
        call->unknown.push_back(At("tools", i));
        continue;
      }
      call->tools.list.push_back(ReadFunction(tool.Need("function"), tool.PathOf("function"), "parameters"));
    }
  }
  call->tools.parallel = body->Flag("parallel_tool_calls", true);
  if (const Json* choice = body->Find("tool_choice")) {
    const std::string word = choice->is_string() ? choice->get<std::string>() : "";
    if (choice->is_object() && choice->value("type", Json()) == "allowed_tools") {
      Fields outer(*choice, "tool_choice");
      AllowTools(outer.Need("allowed_tools"), outer.PathOf("allowed_tools"), true, &call->tools);
    } else if (choice->is_object()) {
      Fields outer(*choice, "tool_choice");
      Fields function(outer.Need("function"), "tool_choice.function");
      call->tools.choice = Choice::kNamed;
      call->tools.named = function.NeedText("name");
    } else if (word == "auto" || word == "none" || word == "required") {
      call->tools.choice = word == "auto"   ? Choice::kAuto
                           : word == "none" ? Choice::kNone
                                            : Choice::kRequired;
    } else {
      Refuse("tool_choice", "must be auto, none, required or an object that names a function");
    }
    CheckChoice("tool_choice", "tool_choice.function.name", call->tools);
  }
}

void SetThinking(bool think, model::RenderOptions* render) {
  render->think = think;
  if (const auto value = render->values.find("enable_thinking"); value != render->values.end())
    value->second = think ? "true" : "false";
}

void ReadEffort(const std::optional<std::string>& effort, Call* call) {
  if (!effort) return;
  call->render.values["reasoning_effort"] = Json(*effort).dump();
  SetThinking(*effort != "none" && *effort != "minimal", &call->render);
}

void ReadTemplate(Fields* body, model::RenderOptions* render) {
  if (const Json* values = body->Object("chat_template_kwargs")) {
    for (const auto& [name, value] : values->items()) {
      if (name == "enable_thinking" && value.is_boolean()) render->think = value.get<bool>();
      render->values[name] = value.dump();
    }
  }
  const bool generation = body->Flag("add_generation_prompt", true);
  if (body->Flag("continue_final_message", false)) {
    if (generation && body->Find("add_generation_prompt") != nullptr)
      Refuse("continue_final_message",
             "asks for the last message to go on, and add_generation_prompt for a new one");
    render->reply = false;
  } else {
    render->header = generation;
  }
}

model::Token ReadToken(const Json& token, const std::string& at) {
  if (!token.is_number_integer() || token < 0 || token > kMostTokens) Refuse(at, "must be a token's number");
  return token.get<model::Token>();
}

std::vector<model::Token> ReadTokens(const Json& list, const std::string& at) {
  std::vector<model::Token> tokens;
  tokens.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) tokens.push_back(ReadToken(list[i], At(at, i)));
  return tokens;
}

}  // namespace headrace::api
