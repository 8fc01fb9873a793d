#include "serve/refusal.h"

namespace headrace::serve {

namespace {

constexpr int64_t kMostUnboundedBytes = 1 << 20;

}  // namespace

std::vector<std::pair<std::string, std::string>> AnswerHeaders(const Caller& caller, const Allowance& a,
                                                               const std::vector<std::string>& unknown) {
  std::vector<std::pair<std::string, std::string>> headers = {{"x-request-id", caller.request_id}};
  const auto limit = [&](const std::string& what, int64_t most, int64_t left, double reset) {
    if (most < 0) return;
    char text[32];
    std::snprintf(text, sizeof text, "%.3fs", reset);
    headers.emplace_back("x-ratelimit-limit-" + what, std::to_string(most));
    headers.emplace_back("x-ratelimit-remaining-" + what, std::to_string(left));
    headers.emplace_back("x-ratelimit-reset-" + what, text);
  };
  limit("requests", a.limit_requests, a.remaining_requests, a.reset_requests);
  limit("tokens", a.limit_tokens, a.remaining_tokens, a.reset_tokens);
  if (!unknown.empty()) {
    std::string list;
    for (const std::string& name : unknown) {
      std::string clean;
      for (const char c : name)
        if (c > ' ' && c < 127 && c != ',') clean += c;
      list += (list.empty() ? "" : ", ") + clean.substr(0, 64);
    }
    headers.emplace_back("x-headrace-ignored", list.substr(0, 1024));
  }
  return headers;
}

api::Fault ShuttingDown() { return {503, "shutting_down", "", "the server is shutting down", 5}; }

api::Fault DeadlinePassed() {
  return {408, "deadline", "deadline", "the answer could not be whole before the deadline"};
}

api::Fault NoSuchModel(const Services& services, const std::string& name) {
  return {404, "model_not_found", "model",
          "there is no model '" + name + "' here; there are " + services.models->names()};
}

std::optional<api::Fault> UnknownFields(const Services& services, const std::vector<std::string>& unknown) {
  if (!services.strict_fields || unknown.empty()) return std::nullopt;
  return api::Fault::Field(unknown[0], "is not a field that this server reads (--strict-fields)");
}

std::optional<api::Fault> CannotFit(const Served& served, size_t bytes, const std::string& field) {
  const int64_t fewest = served.model->FewestTokens(bytes);
  const int64_t most = served.embeds() ? served.model->facts().trained_context : served.context;
  if (fewest > most) {
    api::Fault fault{400, "context_length_exceeded", field,
                     "this model's context holds " + std::to_string(most) +
                         " tokens, and this text has at least " + std::to_string(fewest) + "; shorten it"};
    fault.prompt_tokens = fewest;
    fault.context = most;
    return fault;
  }
  // Of some tokenizers a text of any length may be one token.
  if (fewest == 0 && static_cast<int64_t>(bytes) > kMostUnboundedBytes)
    return api::Fault{400, "context_length_exceeded", field,
                      "this text has " + std::to_string(bytes) + " bytes; at most " +
                          std::to_string(kMostUnboundedBytes) + " are cut into tokens for this model"};
  return std::nullopt;
}

std::optional<api::Fault> NotTokens(const Served& served, const std::vector<model::Token>& tokens,
                                    const std::function<std::string(size_t)>& path) {
  const int32_t vocabulary = served.model->facts().vocabulary;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] >= vocabulary)
      return api::Fault::Field(path(i), "has token " + std::to_string(tokens[i]) + "; this model has " +
                                            std::to_string(vocabulary));
  return std::nullopt;
}

std::optional<api::Fault> NotTokens(const Served& served, const std::vector<model::Token>& tokens,
                                    const std::string& field) {
  return NotTokens(served, tokens, [&](size_t i) { return field + "[" + std::to_string(i) + "]"; });
}

bool SpeaksAnthropic(const http::HttpRequest& request) {
  return request.path.starts_with("/v1/messages") || !request.Header("anthropic-version").empty();
}

http::HttpResponse FaultAnswer(const api::Fault& fault, bool anthropic, const std::string& request_id,
                               std::vector<std::pair<std::string, std::string>> headers) {
  if (fault.retry_after > 0)
    headers.emplace_back("Retry-After", std::to_string(static_cast<int>(fault.retry_after + 0.999)));
  if (fault.status == 401) headers.emplace_back("WWW-Authenticate", "Bearer");
  return {fault.status, std::move(headers),
          anthropic ? api::AnthropicError(fault, request_id) : api::OpenAiError(fault)};
}

}  // namespace headrace::serve
