#include "api/fault.h"

#include "api/write_parts.h"

namespace headrace::api {

Fault Fault::From(const Status& status) {
  const std::string text = status.ToString();
  switch (status.code()) {
    case Code::kInvalid:
    case Code::kUnsupported:
      return {400, "", "", text, 0};
    case Code::kLimit:
      // The engine's own words where a prompt is too long (core_admit.cc).
      if (text.find("the context holds") != std::string::npos)
        return {400, "context_length_exceeded", "messages", text, 0};
      return {400, "", "", text, 0};
    case Code::kNotFound:
      return {404, "not_found", "", text, 0};
    case Code::kTimeout:
      return {408, "timeout", "", text, 0};
    case Code::kUnavailable:
      return {429, "queue_full", "", text, 1};
    case Code::kCancelled:
      return {503, "shutting_down", "", text, 5};
    default:
      return {500, "", "", text, 0};
  }
}

std::string Fault::type() const {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 408:
      return "timeout_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

std::string OpenAiError(const Fault& fault) {
  ordered_json error = {
      {"message", fault.message}, {"type", fault.type()}, {"param", nullptr}, {"code", nullptr}};
  if (!fault.param.empty()) error["param"] = fault.param;
  if (!fault.code.empty()) error["code"] = fault.code;
  if (fault.prompt_tokens > 0) error["n_prompt_tokens"] = fault.prompt_tokens;
  if (fault.context > 0) error["n_ctx"] = fault.context;
  return Dump({{"error", error}});
}

std::string AnthropicError(const Fault& fault, const std::string& request_id) {
  const std::string message = fault.param.empty() ? fault.message : fault.param + ": " + fault.message;
  return Dump({{"type", "error"},
               {"error", {{"type", fault.type()}, {"message", message}}},
               {"request_id", request_id}});
}

}  // namespace headrace::api
