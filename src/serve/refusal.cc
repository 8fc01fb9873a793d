#include "serve/refusal.h"

#include "serve/grpc.h"

namespace headrace::serve {

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
  const auto found = served.session->CannotFit(bytes);
  if (!found) return std::nullopt;
  api::Fault fault{400, "context_length_exceeded", field, found->why};
  fault.prompt_tokens = found->tokens;
  fault.context = found->context;
  return fault;
}

std::optional<api::Fault> NotTokens(const Served& served, const std::vector<model::Token>& tokens,
                                    const std::function<std::string(size_t)>& path) {
  const int64_t unknown = served.session->FirstUnknown(tokens);
  if (unknown < 0) return std::nullopt;
  const auto at = static_cast<size_t>(unknown);
  return api::Fault::Field(path(at), "has token " + std::to_string(tokens[at]) + "; this model has " +
                                         std::to_string(served.model().facts().vocabulary));
}

std::optional<api::Fault> NotTokens(const Served& served, const std::vector<model::Token>& tokens,
                                    const std::string& field) {
  return NotTokens(served, tokens, [&](size_t i) { return field + "[" + std::to_string(i) + "]"; });
}

bool SpeaksAnthropic(const http::HttpRequest& request) {
  return request.path.starts_with("/v1/messages") || !request.Header("anthropic-version").empty();
}

http::HttpResponse FaultAnswer(const api::Fault& fault, const http::HttpRequest& request,
                               const std::string& request_id,
                               std::vector<std::pair<std::string, std::string>> headers) {
  if (request.http2) return CallFault(fault, std::move(headers));
  if (fault.retry_after > 0)
    headers.emplace_back("Retry-After", std::to_string(static_cast<int>(fault.retry_after + 0.999)));
  if (fault.status == 401) headers.emplace_back("WWW-Authenticate", "Bearer");
  return {fault.status, std::move(headers),
          SpeaksAnthropic(request) ? api::AnthropicError(fault, request_id) : api::OpenAiError(fault)};
}

}  // namespace headrace::serve
