// chat.completion and chat.completion.chunk.
#include "api/write_parts.h"

namespace headrace::api {
namespace {

ordered_json Bytes(std::string_view piece) {
  ordered_json bytes = ordered_json::array();
  for (const char c : piece) bytes.push_back(static_cast<int>(static_cast<unsigned char>(c)));
  return bytes;
}

class ChatWriter final : public Writer {
 public:
  ChatWriter(const Call& call, Head head)
      : head_(std::move(head)),
        n_(call.n),
        logprobs_(call.request.top_logprobs >= 0),
        usage_(call.include_usage),
        reasoning_(call.give_reasoning),
        timings_(call.timings),
        lead_(EventLead(head_, "chat.completion.chunk")) {}

  std::string Whole(const std::vector<Choice>& choices) override {
    ordered_json list = ordered_json::array();
    for (const Choice& choice : choices) {
      const bool calls = !choice.message.tool_calls.empty();
      ordered_json message = {
          {"role", "assistant"}, {"content", choice.message.content}, {"refusal", nullptr}};
      message["annotations"] = ordered_json::array();
      if (calls && choice.message.content.empty()) message["content"] = nullptr;
      if (reasoning_ && !choice.message.reasoning.empty())
        message["reasoning_content"] = choice.message.reasoning;
      for (const model::ToolCall& call : choice.message.tool_calls)
        message["tool_calls"].push_back({{"id", call.id},
                                         {"type", "function"},
                                         {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
      ordered_json one = {{"index", choice.index}, {"message", std::move(message)}, {"logprobs", nullptr}};
      if (logprobs_) one["logprobs"] = {{"content", ChatLogprobs(choice.tokens, 0, head_)}};
      one["finish_reason"] = FinishReason(choice);
      if (choice.finish == engine::Finish::kStop) one["stop_reason"] = StopReason(choice);
      list.push_back(std::move(one));
    }
    return WholeBody(head_, "chat.completion", std::move(list), choices, n_);
  }

  std::string Begin(int64_t) override {
    std::string text;
    for (int i = 0; i < n_; ++i) text += Chunk(i, R"({"role":"assistant","content":""})", "null", "null");
    return text;
  }

  std::string Progress(const Choice& choice, int32_t processed) override {
    return Chunk(choice.index, "{}", "null", "null", ProgressField(choice.usage, processed));
  }

  std::string Say(const Choice& choice, const std::vector<Event>& events, size_t fresh) override {
    std::string text;
    std::string logprobs = "null";
    if (logprobs_ && fresh < choice.tokens.size())
      logprobs = Dump({{"content", ChatLogprobs(choice.tokens, fresh, head_)}});
    for (const Event& event : events) {
      if (event.kind == Event::Kind::kReasoning && !reasoning_) continue;
      text += Chunk(choice.index, Part(choice, event), logprobs, "null", Timed(choice));
      logprobs = "null";
    }
    if (logprobs != "null") text += Chunk(choice.index, "{}", logprobs, "null", Timed(choice));
    return text;
  }

  std::string EndChoice(const Choice& choice) override {
    return Chunk(choice.index, "{}", "null", "\"" + FinishReason(choice) + "\"", TimingsField(choice.usage));
  }

  std::string End(const std::vector<Choice>& choices) override {
    return LastEvents(lead_, usage_, choices, n_);
  }

  std::string Error(const Fault& fault) override { return "data: " + OpenAiError(fault) + "\n\n"; }

 private:
  std::string Timed(const Choice& choice) const { return timings_ ? TimingsField(choice.usage) : ""; }

  static std::string Part(const Choice& choice, const Event& event) {
    const auto call = [&](const std::string& inner) {
      return "{\"tool_calls\":[{\"index\":" + std::to_string(event.call) + "," + inner + "}]}";
    };
    switch (event.kind) {
      case Event::Kind::kText:
        return "{\"content\":" + JsonText(event.text) + "}";
      case Event::Kind::kReasoning:
        return "{\"reasoning_content\":" + JsonText(event.text) + "}";
      case Event::Kind::kCall:
        return call("\"id\":" + JsonText(choice.message.tool_calls[event.call].id) +
                    ",\"type\":\"function\",\"function\":{\"name\":" + JsonText(event.text) +
                    ",\"arguments\":\"\"}");
      case Event::Kind::kArguments:
        return call("\"function\":{\"arguments\":" + JsonText(event.text) + "}");
    }
    return "{}";
  }

  std::string Chunk(int index, const std::string& delta, const std::string& logprobs,
                    const std::string& finish, const std::string& more = "") const {
    std::string text = lead_;
    text.reserve(lead_.size() + delta.size() + logprobs.size() + more.size() + 96);
    text += "{\"index\":";
    text += std::to_string(index);
    text += ",\"delta\":";
    text += delta;
    text += ",\"logprobs\":";
    text += logprobs;
    text += ",\"finish_reason\":";
    text += finish;
    text += '}';
    text += EventEnd(usage_, more);
    return text;
  }

  Head head_;
  int n_;
  bool logprobs_, usage_, reasoning_, timings_;
  std::string lead_;
};

}  // namespace

std::string JsonText(std::string_view text) {
  return ordered_json(text).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::string Dump(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

Totals Sum(const std::vector<Choice>& choices, int n) {
  Totals totals;
  for (const Choice& choice : choices) {
    if (choice.index % n == 0) {
      totals.prompt += choice.usage.prompt_tokens;
      totals.cached += choice.usage.cached_tokens;
    }
    totals.answer += choice.usage.answer_tokens;
  }
  return totals;
}

ordered_json UsageJson(const std::vector<Choice>& choices, int n) {
  const Totals totals = Sum(choices, n);
  return {{"prompt_tokens", totals.prompt},
          {"completion_tokens", totals.answer},
          {"total_tokens", totals.prompt + totals.answer},
          {"prompt_tokens_details", {{"cached_tokens", totals.cached}}}};
}

std::string WholeBody(const Head& head, const char* object, ordered_json list,
                      const std::vector<Choice>& choices, int n) {
  return Dump({{"id", head.id},
               {"object", object},
               {"created", head.created},
               {"model", head.model},
               {"system_fingerprint", head.fingerprint},
               {"choices", std::move(list)},
               {"usage", UsageJson(choices, n)},
               {"timings", Timings(choices.front().usage)}});
}

std::string EventLead(const Head& head, const char* object) {
  return "data: {\"id\":" + JsonText(head.id) + ",\"object\":\"" + object +
         "\",\"created\":" + std::to_string(head.created) + ",\"model\":" + JsonText(head.model) +
         ",\"system_fingerprint\":" + JsonText(head.fingerprint) + ",\"choices\":[";
}

std::string LastEvents(const std::string& lead, bool usage, const std::vector<Choice>& choices, int n) {
  std::string text;
  if (usage) text = lead + "],\"usage\":" + Dump(UsageJson(choices, n)) + "}\n\n";
  return text + "data: [DONE]\n\n";
}

ordered_json ChatLogprobs(const std::vector<engine::TokenOut>& tokens, size_t from, const Head& head) {
  ordered_json list = ordered_json::array();
  for (size_t i = from; i < tokens.size(); ++i) {
    const auto one = [&](model::Token token, float logprob) {
      const std::string_view piece = head.piece(token);
      return ordered_json{{"token", piece}, {"logprob", logprob}, {"bytes", Bytes(piece)}};
    };
    ordered_json entry = one(tokens[i].token, tokens[i].logprob);
    entry["top_logprobs"] = ordered_json::array();
    for (const engine::LogProb& top : tokens[i].top)
      entry["top_logprobs"].push_back(one(top.token, top.logprob));
    list.push_back(std::move(entry));
  }
  return list;
}

std::unique_ptr<Writer> MakeChat(const Call& call, Head head) {
  return std::make_unique<ChatWriter>(call, std::move(head));
}

std::unique_ptr<Writer> Writer::Make(const Call& call, Head head) {
  switch (call.dialect) {
    case Dialect::kChat:
      return MakeChat(call, std::move(head));
    case Dialect::kCompletions:
      return MakeCompletions(call, std::move(head));
    case Dialect::kResponses:
      return MakeResponses(call, std::move(head));
    case Dialect::kNative:
      return MakeNative(call, std::move(head));
    case Dialect::kMessages:
      return MakeMessages(call, std::move(head));
  }
  return nullptr;
}

std::string EmbeddingsBody(const std::string& model, const std::vector<float>& values, int width, bool base64,
                           int64_t tokens) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text = R"({"object":"list","data":[)";
  const size_t count = width > 0 ? values.size() / static_cast<size_t>(width) : 0;
  for (size_t i = 0; i < count; ++i) {
    text += i > 0 ? ",{\"object\":\"embedding\",\"index\":" : "{\"object\":\"embedding\",\"index\":";
    text += std::to_string(i) + ",\"embedding\":";
    const float* row = values.data() + i * static_cast<size_t>(width);
    if (base64) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(row);
      const size_t size = static_cast<size_t>(width) * sizeof(float);
      text += '"';
      for (size_t at = 0; at < size; at += 3) {
        const size_t left = std::min<size_t>(3, size - at);
        const uint32_t bits = static_cast<uint32_t>(bytes[at]) << 16 |
                              (left > 1 ? static_cast<uint32_t>(bytes[at + 1]) << 8 : 0) |
                              (left > 2 ? static_cast<uint32_t>(bytes[at + 2]) : 0);
        text += kDigits[bits >> 18];
        text += kDigits[bits >> 12 & 63];
        text += left > 1 ? kDigits[bits >> 6 & 63] : '=';
        text += left > 2 ? kDigits[bits & 63] : '=';
      }
      text += "\"}";
    } else {
      char number[32];
      text += '[';
      for (int j = 0; j < width; ++j) {
        const int length =
            std::snprintf(number, sizeof number, j > 0 ? ",%.9g" : "%.9g", static_cast<double>(row[j]));
        text.append(number, static_cast<size_t>(length));
      }
      text += "]}";
    }
  }
  return text + "],\"model\":" + JsonText(model) + ",\"usage\":{\"prompt_tokens\":" + std::to_string(tokens) +
         ",\"total_tokens\":" + std::to_string(tokens) + "}}";
}

}  // namespace headrace::api
