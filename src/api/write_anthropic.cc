// Anthropic's message (docs.anthropic.com/en/api/messages-streaming).
#include "api/write_parts.h"

namespace headrace::api {
namespace {

class MessagesWriter final : public Writer {
 public:
  explicit MessagesWriter(Head head) : head_(std::move(head)) {}

  std::string Whole(const std::vector<Choice>& choices) override {
    const Choice& choice = choices.front();
    ordered_json content = ordered_json::array();
    if (!choice.message.reasoning.empty())
      content.push_back({{"type", "thinking"}, {"thinking", choice.message.reasoning}, {"signature", ""}});
    if (!choice.message.content.empty() || choice.message.tool_calls.empty())
      content.push_back({{"type", "text"}, {"text", choice.message.content}, {"citations", nullptr}});
    for (const model::ToolCall& call : choice.message.tool_calls)
      content.push_back(ToolUse(call, Input(call.arguments)));
    ordered_json message = Message(choice.usage.prompt_tokens - choice.usage.cached_tokens);
    message["content"] = std::move(content);
    message["stop_reason"] = Reason(choice);
    if (choice.finish == engine::Finish::kStop) message["stop_sequence"] = choice.stop;
    message["usage"] = Usage(choice.usage);
    return Dump(message);
  }

  std::string Begin(int64_t prompt_tokens) override {
    return Sse("message_start", {{"message", Message(prompt_tokens)}});
  }

  std::string Say(const Choice& choice, const std::vector<Event>& events, size_t) override {
    std::string text;
    for (const Event& event : events) {
      const bool call = event.kind == Event::Kind::kCall || event.kind == Event::Kind::kArguments;
      const Event::Kind kind = call ? Event::Kind::kCall : event.kind;
      if (!open_ || *open_ != kind || (call && call_ != event.call)) {
        text += Close();
        open_ = kind;
        call_ = event.call;
        ordered_json block;
        if (kind == Event::Kind::kText) block = EmptyText();
        if (kind == Event::Kind::kReasoning)
          block = {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}};
        if (call) block = ToolUse(choice.message.tool_calls[event.call], ordered_json::object());
        text += Sse("content_block_start", {{"index", ++index_}, {"content_block", block}});
      }
      ordered_json delta;
      if (event.kind == Event::Kind::kText) delta = {{"type", "text_delta"}, {"text", event.text}};
      if (event.kind == Event::Kind::kReasoning)
        delta = {{"type", "thinking_delta"}, {"thinking", event.text}};
      if (event.kind == Event::Kind::kArguments)
        delta = {{"type", "input_json_delta"}, {"partial_json", event.text}};
      if (!delta.is_null()) text += Sse("content_block_delta", {{"index", index_}, {"delta", delta}});
    }
    return text;
  }

  std::string EndChoice(const Choice& choice) override {
    std::string text;
    if (index_ < 0) {
      text += Sse("content_block_start", {{"index", ++index_}, {"content_block", EmptyText()}});
      open_ = Event::Kind::kText;
    }
    text += Close();
    ordered_json delta = {{"stop_reason", Reason(choice)}, {"stop_sequence", nullptr}};
    if (choice.finish == engine::Finish::kStop) delta["stop_sequence"] = choice.stop;
    return text + Sse("message_delta", {{"delta", delta}, {"usage", Usage(choice.usage)}});
  }

  std::string End(const std::vector<Choice>&) override { return Sse("message_stop", ordered_json::object()); }

  std::string Error(const Fault& fault) override {
    return "event: error\ndata: " + AnthropicError(fault, head_.id) + "\n\n";
  }

 private:
  ordered_json Message(int64_t input_tokens) const {
    return {{"id", "msg_" + head_.id},
            {"type", "message"},
            {"role", "assistant"},
            {"model", head_.model},
            {"content", ordered_json::array()},
            {"stop_reason", nullptr},
            {"stop_sequence", nullptr},
            {"stop_details", nullptr},
            {"container", nullptr},
            {"usage", UsageOf(input_tokens, 0, 0)}};
  }
  static ordered_json EmptyText() { return {{"type", "text"}, {"text", ""}, {"citations", nullptr}}; }
  static ordered_json ToolUse(const model::ToolCall& call, ordered_json input) {
    return {{"type", "tool_use"},
            {"id", call.id},
            {"name", call.name},
            {"input", std::move(input)},
            {"caller", {{"type", "direct"}}}};
  }
  // Theirs counts what was read from the cache apart.
  static ordered_json Usage(const engine::Usage& usage) {
    return UsageOf(usage.prompt_tokens - usage.cached_tokens, usage.cached_tokens, usage.answer_tokens);
  }
  // The fields that a service alone can fill are there, and null: their API requires them.
  static ordered_json UsageOf(int64_t input, int64_t cached, int64_t output) {
    return {
        {"input_tokens", input},      {"cache_creation_input_tokens", 0}, {"cache_read_input_tokens", cached},
        {"cache_creation", nullptr},  {"output_tokens", output},          {"output_tokens_details", nullptr},
        {"server_tool_use", nullptr}, {"service_tier", nullptr},          {"inference_geo", nullptr}};
  }
  static ordered_json Input(const std::string& arguments) {
    ordered_json input = ParseJsonInOrder(arguments);
    return input.is_object() ? input : ordered_json::object();
  }
  static std::string Reason(const Choice& choice) {
    if (choice.finish == engine::Finish::kStop) return "stop_sequence";
    if (choice.finish == engine::Finish::kLength) return "max_tokens";
    return choice.message.tool_calls.empty() ? "end_turn" : "tool_use";
  }
  std::string Close() {
    if (!open_) return "";
    open_.reset();
    return Sse("content_block_stop", {{"index", index_}});
  }
  static std::string Sse(const std::string& type, ordered_json data) {
    ordered_json whole = {{"type", type}};
    whole.update(data);
    return "event: " + type + "\ndata: " + Dump(whole) + "\n\n";
  }

  Head head_;
  int index_ = -1;
  std::optional<Event::Kind> open_;
  size_t call_ = 0;
};

}  // namespace

std::unique_ptr<Writer> MakeMessages(const Call&, Head head) {
  return std::make_unique<MessagesWriter>(std::move(head));
}

}  // namespace headrace::api
