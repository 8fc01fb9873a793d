// text_completion.
#include <set>

#include "api/write_parts.h"
#include "base/utf8.h"

namespace headrace::api {
namespace {

class CompletionsWriter final : public Writer {
 public:
  CompletionsWriter(const Call& call, Head head)
      : head_(std::move(head)),
        n_(call.n),
        logprobs_(call.request.top_logprobs >= 0),
        echo_(call.echo),
        prompt_(call.request.prompt_logprobs >= 0),
        usage_(call.include_usage),
        timings_(call.timings),
        choices_(call.n * static_cast<int>(call.prompts.size())),
        lead_(EventLead(head_, "text_completion")) {}

  std::string Whole(const std::vector<Choice>& choices) override {
    ordered_json list = ordered_json::array();
    for (const Choice& choice : choices) {
      ordered_json one = {{"index", choice.index},
                          {"text", choice.prompt_text + choice.message.content},
                          {"logprobs", nullptr},
                          {"finish_reason", FinishReason(choice)}};
      if (logprobs_) one["logprobs"] = Logprobs(choice, 0, true);
      if (prompt_) one["prompt_logprobs"] = PromptLogprobs(choice);
      if (choice.finish == engine::Finish::kStop) one["stop_reason"] = StopReason(choice);
      list.push_back(std::move(one));
    }
    return WholeBody(head_, "text_completion", std::move(list), choices, n_);
  }

  std::string Begin(int64_t) override {
    offsets_.assign(static_cast<size_t>(choices_), 0);
    return "";
  }

  std::string Say(const Choice& choice, const std::vector<Event>& events, size_t fresh) override {
    std::string said;
    const bool first = told_.insert(choice.index).second;
    if (echo_ && first) said = choice.prompt_text;
    for (const Event& event : events) said += event.text;
    const bool tokens = logprobs_ && (fresh < choice.tokens.size() || (first && echo_));
    if (said.empty() && !tokens) return "";
    return Chunk(choice.index, said, tokens ? Dump(Logprobs(choice, fresh, first)) : "null", "null",
                 timings_ ? TimingsField(choice.usage) : "");
  }

  std::string Progress(const Choice& choice, int32_t processed) override {
    return Chunk(choice.index, "", "null", "null", ProgressField(choice.usage, processed));
  }

  std::string EndChoice(const Choice& choice) override {
    return Chunk(choice.index, "", "null", "\"" + FinishReason(choice) + "\"", TimingsField(choice.usage));
  }

  std::string End(const std::vector<Choice>& choices) override {
    return LastEvents(lead_, usage_, choices, n_);
  }

  std::string Error(const Fault& fault) override { return "data: " + OpenAiError(fault) + "\n\n"; }

 private:
  std::string Chunk(int index, const std::string& said, const std::string& logprobs,
                    const std::string& finish, const std::string& more) const {
    return lead_ + "{\"index\":" + std::to_string(index) + ",\"text\":" + JsonText(said) +
           ",\"logprobs\":" + logprobs + ",\"finish_reason\":" + finish + "}" + EventEnd(usage_, more);
  }

  // {"tokens", "token_logprobs", "top_logprobs", "text_offset"}: the prompt's first where it is echoed.
  ordered_json Logprobs(const Choice& choice, size_t from, bool with_prompt) {
    ordered_json tokens = ordered_json::array(), logprobs = ordered_json::array(),
                 tops = ordered_json::array(), offsets = ordered_json::array();
    if (offsets_.size() <= static_cast<size_t>(choice.index))
      offsets_.resize(static_cast<size_t>(choice.index) + 1);
    int64_t& offset = offsets_[static_cast<size_t>(choice.index)];
    const auto add = [&](model::Token token, const engine::TokenOut* out) {
      const std::string_view piece = head_.piece(token);
      tokens.push_back(Key(token));
      offsets.push_back(offset);
      offset += static_cast<int64_t>(piece.size());
      if (out == nullptr) {
        logprobs.push_back(nullptr);
        tops.push_back(nullptr);
        return;
      }
      logprobs.push_back(out->logprob);
      ordered_json top = ordered_json::object();
      for (const engine::LogProb& one : out->top) top.emplace(Key(one.token), one.logprob);
      if (!out->top.empty()) top.emplace(Key(token), out->logprob);  // the chosen one is always among them
      tops.push_back(std::move(top));
    };
    if (with_prompt && echo_) {
      for (size_t i = 0; i < choice.prompt_tokens.size(); ++i)
        add(choice.prompt_tokens[i], i > 0 && i <= choice.prompt.size() ? &choice.prompt[i - 1] : nullptr);
    }
    for (size_t i = from; i < choice.tokens.size(); ++i) add(choice.tokens[i].token, &choice.tokens[i]);
    return {
        {"tokens", tokens}, {"token_logprobs", logprobs}, {"top_logprobs", tops}, {"text_offset", offsets}};
  }

  // A token's name in these lists: its text, or its bytes as OpenAI writes them where they are half a
  // character: "bytes:\\xe2\\x80". Two such tokens are two names.
  std::string Key(model::Token token) const {
    const std::string_view piece = head_.piece(token);
    if (CompleteUtf8(piece) == piece.size() && CleanUtf8(piece) == piece) return std::string(piece);
    std::string key = "bytes:";
    for (const char c : piece) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      key += hex;
    }
    return key;
  }

  // vLLM's: null, then for each token of the prompt {"<token>": {"logprob", "rank"?, "decoded_token"}}.
  ordered_json PromptLogprobs(const Choice& choice) const {
    ordered_json list = ordered_json::array({nullptr});
    for (const engine::TokenOut& out : choice.prompt) {
      ordered_json entry = ordered_json::object();
      const auto add = [&](model::Token token, float logprob) {
        entry[std::to_string(token)] = {{"logprob", logprob}, {"decoded_token", head_.piece(token)}};
      };
      add(out.token, out.logprob);
      for (const engine::LogProb& top : out.top) add(top.token, top.logprob);
      list.push_back(std::move(entry));
    }
    return list;
  }

  Head head_;
  int n_;
  bool logprobs_, echo_, prompt_, usage_, timings_;
  int choices_;
  std::string lead_;
  std::vector<int64_t> offsets_;
  std::set<int> told_;
};

}  // namespace

std::unique_ptr<Writer> MakeCompletions(const Call& call, Head head) {
  return std::make_unique<CompletionsWriter>(call, std::move(head));
}

}  // namespace headrace::api
