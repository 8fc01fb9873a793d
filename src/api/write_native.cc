// llama.cpp's own /completion.
#include <algorithm>

#include "api/write_parts.h"

namespace headrace::api {
namespace {

ordered_json Settings(const Call& call) {
  const engine::Request& r = call.request;
  const engine::Sampling& s = r.sampling;
  ordered_json bias = ordered_json::array();
  for (const auto& [token, amount] : s.logit_bias) bias.push_back({{"bias", amount}, {"token", token}});
  return {{"seed", s.seed},
          {"temperature", s.temperature},
          {"dynatemp_range", 0.0},
          {"dynatemp_exponent", 1.0},
          {"top_k", s.top_k},
          {"top_p", s.top_p},
          {"min_p", s.min_p},
          {"top_n_sigma", -1.0},
          {"xtc_probability", s.xtc_probability},
          {"xtc_threshold", s.xtc_threshold},
          {"typical_p", 1.0},
          {"repeat_last_n", -1},
          {"repeat_penalty", s.repetition_penalty},
          {"presence_penalty", s.presence_penalty},
          {"frequency_penalty", s.frequency_penalty},
          {"dry_multiplier", s.dry.multiplier},
          {"dry_base", s.dry.base},
          {"dry_allowed_length", s.dry.allowed_length},
          {"dry_penalty_last_n", s.dry.last_n},
          {"dry_sequence_breakers", s.dry.breakers},
          {"mirostat", 0},
          {"adaptive_target", -1.0},  // neither is here: as where llama.cpp has them off
          {"adaptive_decay", 0.9},
          {"stop", r.stops},
          {"max_tokens", r.max_tokens},
          {"n_predict", r.max_tokens},
          {"n_keep", 0},
          {"ignore_eos", r.ignore_end},
          {"stream", call.stream},
          {"logit_bias", std::move(bias)},
          {"n_probs", std::max(r.top_logprobs, 0)},
          {"min_keep", 0},
          {"grammar", r.structure.kind == engine::Structure::Kind::kGrammar ? r.structure.text : ""},
          {"samplers", {"penalties", "dry", "temperature", "top_k", "top_p", "min_p", "xtc"}},
          {"timings_per_token", call.timings}};
}

ordered_json Probability(const Head& head, model::Token token, float logprob) {
  const std::string_view piece = head.piece(token);
  ordered_json bytes = ordered_json::array();
  for (const char c : piece) bytes.push_back(static_cast<int>(static_cast<unsigned char>(c)));
  return {{"id", token}, {"token", piece}, {"bytes", std::move(bytes)}, {"logprob", logprob}};
}

// "generation_settings/n_predict" becomes a field of that name.
ordered_json Chosen(const ordered_json& whole, const std::vector<std::string>& fields) {
  if (fields.empty()) return whole;
  ordered_json body = ordered_json::object();
  for (const std::string& field : fields) {
    const ordered_json* at = &whole;
    for (size_t from = 0; at != nullptr && from <= field.size();) {
      const size_t slash = std::min(field.find('/', from), field.size());
      const std::string part = field.substr(from, slash - from);
      at = at->is_object() && at->contains(part) ? &(*at)[part] : nullptr;
      from = slash + 1;
    }
    if (at != nullptr) body[field] = *at;
  }
  return body;
}

class NativeWriter final : public Writer {
 public:
  NativeWriter(const Call& call, Head head)
      : head_(std::move(head)),
        stream_(call.stream),
        probs_(call.request.top_logprobs >= 0),
        tokens_(call.return_tokens),
        timings_(call.timings),
        several_(call.n * call.prompts.size() > 1),
        fields_(call.response_fields),
        settings_(Settings(call)) {}

  std::string Whole(const std::vector<Choice>& choices) override {
    ordered_json list = ordered_json::array();
    for (const Choice& choice : choices) list.push_back(Final(choice));
    return Dump(several_ ? list : list[0]);
  }

  std::string Begin(int64_t) override { return ""; }

  std::string Progress(const Choice& choice, int32_t processed) override {
    ordered_json body = Piece(choice, "", choice.tokens.size());
    body["prompt_progress"] = ProgressJson(choice.usage, processed);
    return Sse(body);
  }

  std::string Say(const Choice& choice, const std::vector<Event>& events, size_t fresh) override {
    std::string said;
    for (const Event& event : events) said += event.text;
    if (said.empty() && fresh >= choice.tokens.size()) return "";
    ordered_json body = Piece(choice, said, fresh);
    if (timings_) body["timings"] = Timings(choice.usage);
    if (probs_) body["completion_probabilities"] = Probabilities(choice, fresh);
    return Sse(body);
  }

  std::string EndChoice(const Choice& choice) override { return Sse(Final(choice)); }
  std::string End(const std::vector<Choice>&) override { return ""; }
  std::string Error(const Fault& fault) override { return "data: " + OpenAiError(fault) + "\n\n"; }

 private:
  static std::string Sse(const ordered_json& body) { return "data: " + Dump(body) + "\n\n"; }

  ordered_json Piece(const Choice& choice, const std::string& said, size_t fresh) const {
    ordered_json tokens = ordered_json::array();
    for (size_t i = fresh; i < choice.tokens.size(); ++i) tokens.push_back(choice.tokens[i].token);
    return {{"index", choice.index},
            {"content", said},
            {"tokens", std::move(tokens)},
            {"stop", false},
            {"id_slot", choice.index},
            {"tokens_predicted", choice.tokens.size()},
            {"tokens_evaluated", choice.prompt_tokens.size()}};
  }

  ordered_json Probabilities(const Choice& choice, size_t from) const {
    ordered_json list = ordered_json::array();
    for (size_t i = from; i < choice.tokens.size(); ++i) {
      ordered_json one = Probability(head_, choice.tokens[i].token, choice.tokens[i].logprob);
      one["top_logprobs"] = ordered_json::array();
      for (const engine::LogProb& top : choice.tokens[i].top)
        one["top_logprobs"].push_back(Probability(head_, top.token, top.logprob));
      list.push_back(std::move(one));
    }
    return list;
  }

  ordered_json Final(const Choice& choice) const {
    const std::string& said = choice.message.content;
    ordered_json tokens = ordered_json::array();
    if (tokens_ && !stream_)
      for (const engine::TokenOut& token : choice.tokens) tokens.push_back(token.token);
    ordered_json body = {{"index", choice.index},
                         {"content", stream_ ? "" : said},
                         {"tokens", std::move(tokens)},
                         {"id_slot", choice.index},
                         {"stop", true},
                         {"model", head_.model},
                         {"tokens_predicted", choice.usage.answer_tokens},
                         {"tokens_evaluated", choice.usage.prompt_tokens},
                         {"generation_settings", settings_},
                         {"prompt", choice.prompt_text},
                         {"has_new_line", said.find('\n') != std::string::npos},
                         {"truncated", false},
                         {"stop_type", choice.finish == engine::Finish::kLength ? "limit"
                                       : choice.finish == engine::Finish::kStop ? "word"
                                                                                : "eos"},
                         {"stopping_word", choice.stop},
                         {"tokens_cached", choice.usage.prompt_tokens + choice.usage.answer_tokens},
                         {"timings", Timings(choice.usage)}};
    if (probs_ && !stream_) body["completion_probabilities"] = Probabilities(choice, 0);
    return Chosen(body, fields_);
  }

  Head head_;
  bool stream_, probs_, tokens_, timings_, several_;
  std::vector<std::string> fields_;
  ordered_json settings_;
};

}  // namespace

std::string NativeSettings(const Call& defaults) {
  Call call = defaults;
  (void)ParseCall(Dialect::kNative, R"({"prompt": ""})", &call);
  return Dump(Settings(call));
}

std::unique_ptr<Writer> MakeNative(const Call& call, Head head) {
  return std::make_unique<NativeWriter>(call, std::move(head));
}

}  // namespace headrace::api
