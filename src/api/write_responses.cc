// response: OpenAI's newer API.
#include <algorithm>

#include "api/write_parts.h"

namespace headrace::api {
namespace {

class ResponsesWriter final : public Writer {
 public:
  ResponsesWriter(const Call& call, Head head)
      : head_(std::move(head)),
        logprobs_(call.request.top_logprobs >= 0),
        give_reasoning_(call.give_reasoning),
        timings_(call.timings) {
    const engine::Sampling& s = call.request.sampling;
    base_ = {{"id", "resp_" + head_.id},
             {"object", "response"},
             {"created_at", head_.created},
             {"completed_at", nullptr},
             {"status", "in_progress"},
             {"background", false},
             {"error", nullptr},
             {"incomplete_details", nullptr},
             {"instructions", nullptr},
             {"max_output_tokens", nullptr},
             {"max_tool_calls", nullptr},
             {"model", head_.model},
             {"output", ordered_json::array()},
             {"parallel_tool_calls", call.tools.parallel},
             {"previous_response_id", nullptr},
             {"reasoning", {{"effort", nullptr}, {"summary", nullptr}}},
             {"store", call.store},
             {"temperature", s.temperature},
             {"text", {{"format", {{"type", "text"}}}}},
             {"tool_choice", "auto"},
             {"tools", ordered_json::array()},
             {"top_p", s.top_p},
             {"top_logprobs", std::max(call.request.top_logprobs, 0)},
             {"presence_penalty", s.presence_penalty},
             {"frequency_penalty", s.frequency_penalty},
             {"service_tier", "default"},
             {"safety_identifier", nullptr},
             {"prompt_cache_key", nullptr},
             {"truncation", "disabled"},
             {"usage", nullptr},
             {"user", nullptr},
             {"metadata", ordered_json::object()}};
    if (call.request.max_tokens >= 0) base_["max_output_tokens"] = call.request.max_tokens;
    for (const auto& [name, text] : call.given_back) base_[name] = ParseJsonInOrder(text);
  }

  std::string Whole(const std::vector<Choice>& choices) override { return Dump(Body(choices)); }

  std::string Begin(int64_t) override {
    std::string text = Sse("response.created", {{"response", base_}});  // numbered in this order
    text += Sse("response.in_progress", {{"response", base_}});
    return text;
  }

  // llama.cpp's: how far the prompt is, beside the event's own fields; likewise the timings.
  std::string Progress(const Choice& choice, int32_t processed) override {
    return Sse("response.in_progress",
               {{"response", base_}, {"prompt_progress", ProgressJson(choice.usage, processed)}});
  }

  std::string Say(const Choice& choice, const std::vector<Event>& events, size_t fresh) override {
    std::string text;
    for (const Event& event : events) {
      if (event.kind == Event::Kind::kReasoning && !give_reasoning_) continue;
      const Item wanted{KindOf(event), event.call};
      if (!open_ || open_->kind != wanted.kind || open_->call != wanted.call) {
        text += Close(choice);
        text += Open(choice, wanted);
      }
      const ordered_json where = {{"item_id", ItemId(wanted)}, {"output_index", output_index_}};
      if (wanted.kind == Item::kMessage) {
        ordered_json data = where;
        data["content_index"] = 0;
        data["delta"] = event.text;
        data["logprobs"] = ordered_json::array();
        if (logprobs_ && fresh < choice.tokens.size())
          data["logprobs"] = ChatLogprobs(choice.tokens, fresh, head_);
        if (timings_) data["timings"] = Timings(choice.usage);
        text += Sse("response.output_text.delta", std::move(data));
      } else if (wanted.kind == Item::kReasoning) {
        ordered_json data = where;
        data["content_index"] = 0;
        data["delta"] = event.text;
        text += Sse("response.reasoning_text.delta", std::move(data));
      } else if (event.kind == Event::Kind::kArguments) {
        ordered_json data = where;
        data["delta"] = event.text;
        text += Sse("response.function_call_arguments.delta", std::move(data));
      }
    }
    return text;
  }

  std::string EndChoice(const Choice& choice) override {
    std::string text;
    if (!open_ && output_index_ < 0) text += Open(choice, {Item::kMessage, 0});
    return text + Close(choice);
  }

  std::string End(const std::vector<Choice>& choices) override {
    const ordered_json body = Body(choices);
    ordered_json data = {{"response", body}};
    if (timings_) data["timings"] = Timings(choices.front().usage);
    return Sse(body["status"] == "incomplete" ? "response.incomplete" : "response.completed",
               std::move(data));
  }

  std::string Error(const Fault& fault) override {
    ordered_json body = base_;
    body["status"] = "failed";
    body["error"] = {{"code", fault.code.empty() ? "server_error" : fault.code}, {"message", fault.message}};
    return Sse("response.failed", {{"response", body}});
  }

 private:
  struct Item {
    enum Kind { kReasoning, kMessage, kCall } kind;
    size_t call;
  };
  static Item::Kind KindOf(const Event& event) {
    return event.kind == Event::Kind::kText        ? Item::kMessage
           : event.kind == Event::Kind::kReasoning ? Item::kReasoning
                                                   : Item::kCall;
  }
  std::string ItemId(const Item& item) const {
    return (item.kind == Item::kMessage     ? "msg_"
            : item.kind == Item::kReasoning ? "rs_"
                                            : "fc_") +
           head_.id + "_" + std::to_string(item.call);
  }

  ordered_json Part(const std::string& text) const {
    return {{"type", "output_text"},
            {"text", text},
            {"annotations", ordered_json::array()},
            {"logprobs", ordered_json::array()}};
  }
  ordered_json ItemJson(const Choice& choice, const Item& item, bool done, bool last = true) const {
    // What was cut short is its last item.
    const char* status = !done                                              ? "in_progress"
                         : choice.finish == engine::Finish::kLength && last ? "incomplete"
                                                                            : "completed";
    if (item.kind == Item::kMessage) {
      ordered_json content = ordered_json::array();
      if (done) content.push_back(Part(choice.message.content));
      return {{"id", ItemId(item)},
              {"type", "message"},
              {"status", status},
              {"role", "assistant"},
              {"content", std::move(content)}};
    }
    if (item.kind == Item::kReasoning) {
      ordered_json content = ordered_json::array();
      if (done) content.push_back({{"type", "reasoning_text"}, {"text", choice.message.reasoning}});
      return {{"id", ItemId(item)},
              {"type", "reasoning"},
              {"summary", ordered_json::array()},
              {"content", std::move(content)},
              {"status", status}};
    }
    const model::ToolCall& call = choice.message.tool_calls[item.call];
    return {{"id", ItemId(item)}, {"type", "function_call"}, {"status", status},
            {"call_id", call.id}, {"name", call.name},       {"arguments", done ? call.arguments : ""}};
  }

  std::string Open(const Choice& choice, const Item& item) {
    open_ = item;
    ++output_index_;
    std::string text = Sse("response.output_item.added",
                           {{"output_index", output_index_}, {"item", ItemJson(choice, item, false)}});
    if (item.kind == Item::kMessage)
      text += Sse("response.content_part.added", {{"item_id", ItemId(item)},
                                                  {"output_index", output_index_},
                                                  {"content_index", 0},
                                                  {"part", Part("")}});
    return text;
  }

  std::string Close(const Choice& choice) {
    if (!open_) return "";
    const Item item = *open_;
    open_.reset();
    const ordered_json where = {{"item_id", ItemId(item)}, {"output_index", output_index_}};
    std::string text;
    if (item.kind == Item::kMessage) {
      ordered_json data = where;
      data["content_index"] = 0;
      data["text"] = choice.message.content;
      data["logprobs"] = ordered_json::array();
      text += Sse("response.output_text.done", std::move(data));
      data = where;
      data["content_index"] = 0;
      data["part"] = Part(choice.message.content);
      text += Sse("response.content_part.done", std::move(data));
    } else if (item.kind == Item::kReasoning) {
      ordered_json data = where;
      data["content_index"] = 0;
      data["text"] = choice.message.reasoning;
      text += Sse("response.reasoning_text.done", std::move(data));
    } else {
      ordered_json data = where;
      data["name"] = choice.message.tool_calls[item.call].name;
      data["arguments"] = choice.message.tool_calls[item.call].arguments;
      text += Sse("response.function_call_arguments.done", std::move(data));
    }
    return text + Sse("response.output_item.done",
                      {{"output_index", output_index_}, {"item", ItemJson(choice, item, true)}});
  }

  ordered_json Body(const std::vector<Choice>& choices) const {
    const Choice& choice = choices.front();
    ordered_json body = base_;
    ordered_json output = ordered_json::array();
    if (give_reasoning_ && !choice.message.reasoning.empty())
      output.push_back(ItemJson(choice, {Item::kReasoning, 0}, true,
                                choice.message.content.empty() && choice.message.tool_calls.empty()));
    if (!choice.message.content.empty() || choice.message.tool_calls.empty()) {
      output.push_back(ItemJson(choice, {Item::kMessage, 0}, true, choice.message.tool_calls.empty()));
      if (logprobs_) output.back()["content"][0]["logprobs"] = ChatLogprobs(choice.tokens, 0, head_);
    }
    for (size_t i = 0; i < choice.message.tool_calls.size(); ++i)
      output.push_back(ItemJson(choice, {Item::kCall, i}, true, i + 1 == choice.message.tool_calls.size()));
    const bool cut = choice.finish == engine::Finish::kLength;
    body["status"] = cut ? "incomplete" : "completed";
    if (cut) body["incomplete_details"] = {{"reason", "max_output_tokens"}};
    const engine::Usage& u = choice.usage;
    body["completed_at"] =
        head_.created + static_cast<int64_t>(u.queue_seconds + u.prefill_seconds + u.decode_seconds);
    body["output"] = std::move(output);
    body["usage"] = {{"input_tokens", choice.usage.prompt_tokens},
                     {"input_tokens_details", {{"cached_tokens", choice.usage.cached_tokens}}},
                     {"output_tokens", choice.usage.answer_tokens},
                     {"output_tokens_details", {{"reasoning_tokens", 0}}},
                     {"total_tokens", choice.usage.prompt_tokens + choice.usage.answer_tokens}};
    return body;
  }

  std::string Sse(const std::string& type, ordered_json data) {
    ordered_json whole = {{"type", type}, {"sequence_number", sequence_++}};
    whole.update(data);
    return "event: " + type + "\ndata: " + Dump(whole) + "\n\n";
  }

  Head head_;
  bool logprobs_, give_reasoning_, timings_;
  ordered_json base_;
  std::optional<Item> open_;
  int output_index_ = -1;
  int64_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<Writer> MakeResponses(const Call& call, Head head) {
  return std::make_unique<ResponsesWriter>(call, std::move(head));
}

}  // namespace headrace::api
