#include "trace/span_messages.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/ordered_json.h"

namespace headrace::trace {
namespace {

using nlohmann::json;

// The first of the members that there is.
const json* First(const json& object, std::initializer_list<const char*> names) {
  if (!object.is_object()) return nullptr;
  for (const char* name : names)
    if (const auto found = object.find(name); found != object.end() && !found->is_null()) return &*found;
  return nullptr;
}

std::string Word(const json& object, std::initializer_list<const char*> names) {
  const json* found = First(object, names);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

std::string AsText(const json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

bool IsNumber(const std::string& text) {
  return !text.empty() && text.size() < 10 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// A list, or an object with numbers for names, in their order; another value is a list of itself.
std::vector<json> Entries(const json& told) {
  std::vector<json> entries;
  if (told.is_array()) return {told.begin(), told.end()};
  std::vector<std::pair<int, const json*>> places;
  if (told.is_object())
    for (auto entry = told.begin(); entry != told.end(); ++entry)
      if (IsNumber(entry.key())) places.emplace_back(std::stoi(entry.key()), &*entry);
  if (places.empty() || places.size() < told.size()) return {told};
  std::stable_sort(places.begin(), places.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [place, value] : places) entries.push_back(*value);
  return entries;
}

// OpenInference wraps what it lists: {"message": {…}}, {"tool_call": {…}}.
json Bare(const json& told, const char* wrap) {
  const json* inner = First(told, {wrap});
  return inner != nullptr && inner->is_object() && told.size() == 1 ? *inner : told;
}

std::string Role(const json& told) {
  const std::string role = Word(told, {"role", "type"});  // LangChain's have types
  if (role == "human") return "user";
  if (role == "ai" || role == "model" || role == "AIMessage") return "assistant";
  return role;
}

// A message in the making: parts of several kinds end in different members.
struct Draft {
  json parts = json::array(), calls = json::array();
  std::string reasoning;
  std::vector<json> results;  // messages of their own
};

void AddPart(const json& told, Draft* draft) {
  if (told.is_string()) return draft->parts.push_back({{"type", "text"}, {"text", told}});
  const json part = Bare(told, "message_content");
  const std::string type = Word(part, {"type"});
  if (type == "text" || type == "input_text" || type == "output_text") {
    const json* text = First(part, {"text", "content"});
    return draft->parts.push_back({{"type", "text"}, {"text", text == nullptr ? "" : AsText(*text)}});
  }
  if (type == "tool_call" || type == "tool-call" || type == "tool_use")
    return draft->calls.push_back(ReadCalls(json::array({part}))[0]);
  if (type == "tool_call_response" || type == "tool-result" || type == "tool_result") {
    const json* said = First(part, {"response", "result", "output", "content"});
    return draft->results.push_back({{"role", "tool"},
                                     {"tool_call_id", Word(part, {"id", "toolCallId", "tool_use_id"})},
                                     {"content", said == nullptr ? "" : AsText(*said)}});
  }
  if (type == "reasoning" || type == "thinking") {
    draft->reasoning += Word(part, {"content", "text", "thinking"});
    return;
  }
  // OpenInference's pictures; others stay as they came.
  const json* image = First(part, {"image"});
  if (const json* inner = image == nullptr ? nullptr : First(*image, {"image"}); inner != nullptr)
    return draft->parts.push_back({{"type", "image_url"}, {"image_url", *inner}});
  draft->parts.push_back(part);
}

void AddMessage(const json& told, std::string_view otherwise, json* messages) {
  const json message = Bare(told, "message");
  Draft draft;
  const json* content = First(message, {"parts", "contents", "content"});
  if (content != nullptr && content->is_string()) {
    AddPart(*content, &draft);
  } else if (content != nullptr) {
    for (const json& part : Entries(*content)) AddPart(part, &draft);
  }
  if (const json* calls = First(message, {"tool_calls", "toolCalls"}))
    for (json& call : ReadCalls(*calls)) draft.calls.push_back(std::move(call));
  draft.reasoning += Word(message, {"reasoning", "reasoning_content"});
  json out = {{"role", Role(message)}};
  if (out["role"].get_ref<const std::string&>().empty()) out["role"] = otherwise;
  const bool plain = draft.parts.size() == 1 && Word(draft.parts[0], {"type"}) == "text";
  if (plain) out["content"] = draft.parts[0]["text"];
  if (!plain && !draft.parts.empty()) out["content"] = draft.parts;
  if (!draft.calls.empty()) out["tool_calls"] = draft.calls;
  if (!draft.reasoning.empty()) out["reasoning"] = draft.reasoning;
  for (const auto& [from, to] : {std::pair("tool_call_id", "tool_call_id"), std::pair("name", "name"),
                                 std::pair("finish_reason", "finish_reason")})
    if (const std::string word = Word(message, {from}); !word.empty()) out[to] = word;
  if (out["role"] == "tool" && !out.contains("tool_call_id"))
    if (const std::string id = Word(message, {"id"}); !id.empty()) out["tool_call_id"] = id;
  const bool holds = out.contains("content") || out.contains("tool_calls") || out.contains("reasoning");
  if (holds || draft.results.empty()) messages->push_back(std::move(out));
  for (json& result : draft.results) messages->push_back(std::move(result));
}

bool IsMessage(const json& told) {
  const json inner = Bare(told, "message");
  return First(inner, {"role", "content", "parts", "contents", "tool_calls"}) != nullptr;
}

// {"system", "messages"} or {"prompt"}: a request's body, as some write it down whole.
std::optional<json> ReadBody(const json& body, std::string_view role) {
  json messages = json::array();
  const json* system = First(body, {"system", "instructions"});
  if (system != nullptr && system->is_string()) AddMessage({{"content", *system}}, "system", &messages);
  const json* rest = First(body, {"messages", "prompt"});
  const bool list = rest != nullptr && (body.contains("messages") || !role.empty());
  if (!list) return std::nullopt;
  auto read = ReadMessages(*rest, "user");
  if (!read) return std::nullopt;
  for (json& message : *read) messages.push_back(std::move(message));
  return std::optional<json>(std::move(messages));
}

}  // namespace

json Unpacked(const json& told) {
  if (!told.is_string()) return told;
  const auto& text = told.get_ref<const std::string&>();
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos || (text[begin] != '{' && text[begin] != '[')) return told;
  if (JsonDepth(text) > limits::kMaxJsonDepth / 4) return told;
  json value = ParseJson(text);
  return value.is_discarded() ? told : value;
}

std::optional<json> ReadMessages(const json& told, std::string_view role) {
  const json value = Unpacked(told);
  json messages = json::array();
  if (value.is_string()) {
    if (role.empty()) return std::nullopt;
    AddMessage({{"content", value}}, role, &messages);
    return std::optional<json>(std::move(messages));
  }
  if (value.is_object() && (value.contains("messages") || value.contains("prompt")))
    return ReadBody(value, role);
  for (const json& entry : Entries(value)) {
    if (entry.is_array()) {  // LangChain lists conversations
      for (const json& message : entry) AddMessage(message, "user", &messages);
    } else if (entry.is_string() && !role.empty()) {
      AddMessage({{"content", entry}}, role, &messages);
    } else if (IsMessage(entry)) {
      AddMessage(entry, role.empty() ? "user" : role, &messages);
    } else if (!role.empty() && First(entry, {"type"}) != nullptr) {
      AddMessage({{"content", json::array({entry})}}, role, &messages);  // a part without its message
    } else {
      return std::nullopt;
    }
  }
  return messages.empty() ? std::nullopt : std::optional<json>(std::move(messages));
}

json ReadCalls(const json& told) {
  json calls = json::array();
  for (const json& entry : Entries(Unpacked(told))) {
    const json call = Bare(entry, "tool_call");
    const json* inner = First(call, {"function"});
    const json& function = inner != nullptr && inner->is_object() ? *inner : call;
    const json* arguments = First(function, {"arguments", "args", "input", "params"});
    calls.push_back({{"id", Word(call, {"id", "toolCallId", "call_id"})},
                     {"type", "function"},
                     {"function",
                      {{"name", Word(function, {"name", "toolName"})},
                       {"arguments", arguments == nullptr ? "" : AsText(*arguments)}}}});
  }
  return calls;
}

json ReadTools(const json& told) {
  json tools = json::array();
  for (const json& entry : Entries(Unpacked(told))) {
    json tool = Unpacked(Bare(Unpacked(entry), "tool"));
    if (const json* schema = First(tool, {"json_schema"})) tool = Unpacked(*schema);
    if (tool.is_object() && tool.contains("name") && !tool.contains("function")) {
      json function = {{"name", tool["name"]}};
      if (const json* what = First(tool, {"description"})) function["description"] = *what;
      if (const json* schema = First(tool, {"parameters", "inputSchema", "input_schema"}))
        function["parameters"] = Unpacked(*schema);
      tool = {{"type", "function"}, {"function", std::move(function)}};
    }
    tools.push_back(std::move(tool));
  }
  return tools;
}

std::string TextOf(const json& message) {
  const json* content = First(message, {"content"});
  if (content == nullptr) return "";
  if (content->is_string()) return content->get<std::string>();
  std::string text;
  for (const json& part : *content)
    if (const std::string said = Word(part, {"text"}); !said.empty()) text += said;
  return text;
}

}  // namespace headrace::trace
