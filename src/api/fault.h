// Fault: why a request is refused, as clients act on it: an HTTP status, OpenAI's type and code, and the path
// of the field that is wrong.
#pragma once

#include <string>

#include "base/status.h"

namespace headrace::api {

struct Fault {
  int status = 400;
  std::string code;   // "context_length_exceeded", "" where there is no better word than the type
  std::string param;  // "messages[2].content", "" where it is no field's
  std::string message;
  double retry_after = 0;  // seconds, with 429 and 503
  // Of a prompt that is too long, as llama.cpp's server tells it; 0 where it is not known.
  int64_t prompt_tokens = 0, context = 0;

  static Fault Field(std::string param, std::string message) {
    return {400, "", std::move(param), std::move(message), 0};
  }
  // What an engine's or a store's error means to a client.
  static Fault From(const Status& status);
  // OpenAI's name of the kind: "invalid_request_error", "rate_limit_error", …
  std::string type() const;
};

// {"error": {"message", "type", "param", "code"}}
std::string OpenAiError(const Fault& fault);
// {"type": "error", "error": {"type", "message"}, "request_id"}
std::string AnthropicError(const Fault& fault, const std::string& request_id);

}  // namespace headrace::api
