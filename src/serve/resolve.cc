#include "serve/resolve.h"

#include "serve/refusal.h"
#include "trace/columns.h"

namespace headrace::serve {

std::optional<api::Fault> GoOn(Services* services, const Caller& caller, api::Call* call) {
  call->store = call->store && services->responses->on();
  if (call->previous.empty()) return std::nullopt;
  if (!services->responses->on())
    return api::Fault::Field("previous_response_id",
                             "is not supported here: this server keeps no texts; send the whole input");
  const auto before = services->responses->Find(trace::RowIdOf(call->previous), caller.key.id);
  if (!before.ok()) return api::Fault::From(before.status());
  if (!*before)
    return api::Fault{400, "previous_response_not_found", "previous_response_id",
                      "there is no response '" + call->previous + "' here"};
  return api::Continue((*before)->input, (*before)->response, call);
}

std::optional<api::Fault> FindTokens(const Served& served, api::Call* call) {
  engine::Sampling& sampling = call->request.sampling;
  if (auto fault = NotTokens(served, call->request.stop_tokens, std::string("stop_token_ids"))) return fault;
  for (const auto& [text, bias] : call->bias_texts) {
    const auto tokens = served.model().Tokenize(text, false, false);
    if (!tokens.ok()) return api::Fault::From(tokens.status());
    for (const model::Token token : *tokens) sampling.logit_bias.emplace_back(token, bias);
  }
  std::vector<model::Token> biased;
  for (const auto& [token, bias] : sampling.logit_bias) biased.push_back(token);
  const auto biased_at = [&](size_t i) { return "logit_bias." + std::to_string(biased[i]); };
  if (auto fault = NotTokens(served, biased, biased_at)) return fault;
  // As vLLM reads them: at the beginning of a text and, where that is as many tokens, after a space.
  for (size_t i = 0; i < call->bad_words.size(); ++i) {
    const std::string& word = call->bad_words[i];
    const std::string bare = word.substr(word.find_first_not_of(' '));
    const auto plain = served.model().Tokenize(bare, false, false);
    const auto spaced = served.model().Tokenize(" " + bare, false, false);
    if (!plain.ok() || !spaced.ok() || plain->empty())
      return api::Fault::Field("bad_words[" + std::to_string(i) + "]",
                               "is '" + word + "', which this model cannot write");
    sampling.bad_words.push_back(*plain);
    if (spaced->size() == plain->size() && spaced->front() != plain->front())
      sampling.bad_words.push_back(*spaced);
  }
  return std::nullopt;
}

}  // namespace headrace::serve
