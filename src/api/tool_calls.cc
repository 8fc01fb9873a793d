#include "api/tool_calls.h"

#include "base/json.h"

#include "schema/json_schema.h"

namespace headrace::api {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr char kOpen[] = "<tool_call>";
constexpr char kClose[] = "</tool_call>";
constexpr int kMostCalls = 16;

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

size_t SkipSpace(const std::string& text, size_t at) {
  while (at < text.size() && IsSpace(text[at])) ++at;
  return at;
}

// {"name": "f", "arguments": …} for one of the tools. Each parameters' schema has an $id, so that "#" in it
// means that schema. Where one cannot be held, the arguments are any object, and `loose` gets its place.
ordered_json CallSchema(const Tools& tools, std::vector<std::string>* loose) {
  ordered_json options = ordered_json::array();
  for (const model::Tool& tool : tools.list) {
    if (tools.choice == Tools::Choice::kNamed && tool.name != tools.named) continue;
    ordered_json arguments = ParseJsonInOrder(tool.parameters);
    if (!arguments.is_object() || arguments.empty()) arguments = {{"type", "object"}};
    if (loose != nullptr && !schema::SchemaGrammar(arguments.dump()).ok()) {
      loose->push_back(tool.at);
      arguments = {{"type", "object"}};
    }
    if (!arguments.contains("$id")) arguments["$id"] = "urn:tool:" + std::to_string(options.size());
    options.push_back(
        {{"type", "object"},
         {"properties", {{"name", {{"const", tool.name}}}, {"arguments", std::move(arguments)}}},
         {"required", {"name", "arguments"}},
         {"additionalProperties", false}});
  }
  return {{"anyOf", std::move(options)}};
}

// A call that must be made, or must match, needs a schema that can be held.
std::optional<Fault> NotHeld(const Tools& tools) {
  for (const model::Tool& tool : tools.list) {
    if (tools.choice == Tools::Choice::kNamed && tool.name != tools.named) continue;
    if (!tools.enforced() && !tool.strict) continue;
    if (const auto grammar = schema::SchemaGrammar(tool.parameters); !grammar.ok())
      return Fault::Field(tool.at, grammar.status().ToString());
  }
  return std::nullopt;
}

// Text that may be the beginning of `word` and so must wait.
size_t HeldBack(const std::string& text, const std::string& word) {
  for (size_t length = std::min(word.size() - 1, text.size()); length > 0; --length)
    if (text.compare(text.size() - length, length, word, 0, length) == 0) return length;
  return 0;
}

// Reads {"name": "f", "arguments": …} from `at`; false where not even the name is whole. The arguments are
// the text as far as it goes.
bool ReadCall(const std::string& text, size_t at, model::ToolCall* call, size_t* end) {
  *end = JsonEnd(text, at);
  if (at >= text.size() || text[at] != '{') return false;
  std::string name;
  for (size_t i = SkipSpace(text, at + 1); i < text.size() && text[i] == '"';) {
    const size_t after = JsonEnd(text, i);
    if (after == std::string::npos) return false;
    const json key = ParseJson(text.substr(i, after - i));
    i = SkipSpace(text, after);
    if (i >= text.size() || text[i] != ':') break;
    i = SkipSpace(text, i + 1);
    const size_t value_end = JsonEnd(text, i);
    const std::string value = text.substr(i, value_end == std::string::npos ? value_end : value_end - i);
    if (key == "name") {
      const json read = ParseJson(value);
      if (value_end == std::string::npos || !read.is_string()) return false;
      call->name = read.get<std::string>();
    } else if (key == "arguments" || key == "parameters") {
      call->arguments = value;
    }
    if (value_end == std::string::npos) break;
    i = SkipSpace(text, value_end);
    if (i < text.size() && text[i] == ',') i = SkipSpace(text, i + 1);
  }
  return !call->name.empty();
}

class Tagged final : public model::AnswerFormat {
 public:
  model::Message Parse(const std::string& text, bool whole) const override {
    model::Message message{"assistant", ""};
    size_t at = 0;
    for (;;) {
      const size_t open = text.find(kOpen, at);
      if (open == std::string::npos) break;
      message.content += text.substr(at, open - at);
      const size_t begin = SkipSpace(text, open + sizeof kOpen - 1);
      model::ToolCall call;
      size_t end = 0;
      if (!ReadCall(text, begin, &call, &end)) {
        if (whole) message.content += text.substr(open);  // it was no call: given as it is
        return Trimmed(std::move(message), whole);
      }
      if (whole && end == std::string::npos) {  // cut off: the model ran out of tokens
        message.tool_calls.push_back(std::move(call));
        return Trimmed(std::move(message), whole);
      }
      message.tool_calls.push_back(std::move(call));
      if (end == std::string::npos) return Trimmed(std::move(message), whole);
      at = SkipSpace(text, end);
      if (text.compare(at, sizeof kClose - 1, kClose) == 0) {
        at = SkipSpace(text, at + sizeof kClose - 1);
      } else if (!whole && std::string_view(kClose).starts_with(std::string_view(text).substr(at))) {
        return Trimmed(std::move(message), whole);
      }
    }
    std::string rest = text.substr(at);
    if (!whole) rest.resize(rest.size() - HeldBack(rest, kOpen));
    message.content += rest;
    return Trimmed(std::move(message), whole);
  }

 private:
  // Spaces between the last words and a call are nobody's.
  static model::Message Trimmed(model::Message message, bool whole) {
    if (whole && message.tool_calls.empty()) return message;
    while (!message.content.empty() && IsSpace(message.content.back())) message.content.pop_back();
    return message;
  }
};

class Enforced final : public model::AnswerFormat {
 public:
  model::Message Parse(const std::string& text, bool whole) const override {
    model::Message message{"assistant", ""};
    size_t at = SkipSpace(text, 0);
    if (at < text.size() && text[at] == '[') at = SkipSpace(text, at + 1);
    while (at < text.size() && text[at] == '{') {
      model::ToolCall call;
      size_t end = 0;
      if (!ReadCall(text, at, &call, &end)) break;
      message.tool_calls.push_back(std::move(call));
      if (end == std::string::npos) break;
      at = SkipSpace(text, end);
      if (at < text.size() && text[at] == ',') at = SkipSpace(text, at + 1);
    }
    if (whole && message.tool_calls.empty()) message.content = text;
    return message;
  }
};

std::string Instructions(const Tools& tools) {
  std::string text = "You may call these functions:\n";
  for (const model::Tool& tool : tools.list) {
    const ordered_json parameters = ParseJsonInOrder(tool.parameters);
    text +=
        ordered_json{{"name", tool.name}, {"description", tool.description}, {"parameters", parameters}}.dump(
            -1, ' ', false, ordered_json::error_handler_t::replace) +
        "\n";
  }
  return text +
         "To call one, write\n<tool_call>\n{\"name\": \"<its name>\", \"arguments\": {<its arguments>}}\n"
         "</tool_call>";
}

}  // namespace

size_t JsonEnd(const std::string& text, size_t at) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = at; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        quoted = false;
        if (depth == 0) return i + 1;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return i;  // of what holds a number or a word
      if (--depth == 0) return i + 1;
    } else if (depth == 0 && (c == ',' || IsSpace(c)) && i > at) {
      return i;
    }
  }
  return std::string::npos;
}

std::unique_ptr<model::AnswerFormat> TaggedCalls() { return std::make_unique<Tagged>(); }
std::unique_ptr<model::AnswerFormat> EnforcedCalls() { return std::make_unique<Enforced>(); }

ToolPlan PlanTools(const Tools& tools, bool template_knows_tools) {
  ToolPlan plan;
  if (!tools.callable()) return plan;
  plan.fault = NotHeld(tools);
  if (plan.fault) return plan;
  if (!template_knows_tools) plan.instructions = Instructions(tools);
  using Kind = engine::Structure::Kind;
  if (tools.enforced()) {
    const bool many = tools.parallel && tools.choice == Tools::Choice::kRequired;
    const ordered_json schema = many ? ordered_json{{"type", "array"},
                                                    {"items", CallSchema(tools, nullptr)},
                                                    {"minItems", 1},
                                                    {"maxItems", kMostCalls}}
                                     : CallSchema(tools, nullptr);
    plan.structure = {Kind::kSchema, schema.dump(-1, ' ', false, ordered_json::error_handler_t::replace)};
    plan.format = EnforcedCalls();
  } else if (!template_knows_tools) {
    const ordered_json tag = {
        {"type", "structural_tag"},
        {"format",
         {{"type", "triggered_tags"},
          {"triggers", {kOpen}},
          {"tags",
           ordered_json::array(
               {{{"begin", std::string(kOpen) + "\n"},
                 {"content", {{"type", "json_schema"}, {"json_schema", CallSchema(tools, &plan.loose)}}},
                 {"end", std::string("\n") + kClose}}})},
          {"stop_after_first", !tools.parallel}}}};
    plan.structure = {Kind::kTag, tag.dump(-1, ' ', false, ordered_json::error_handler_t::replace)};
    plan.format = TaggedCalls();
  }
  return plan;
}

}  // namespace headrace::api
