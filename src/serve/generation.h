// Generation: one call for text, from its body to its last byte.
#pragma once

#include <memory>

#include "api/call.h"
#include "serve/services.h"

namespace headrace::serve {

// What of a call is wanted: its answer, how many tokens its prompt has, or the prompt itself.
enum class Want { kAnswer, kCount, kPrompt };

// Answers the exchange, now or later. Called on a worker.
void Generate(Services* services, std::shared_ptr<http::Exchange> exchange, api::Dialect dialect, Want want,
              Caller caller);

}  // namespace headrace::serve
