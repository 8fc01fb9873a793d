// Generation: one call for text, from its body to its last byte.
#pragma once

#include <memory>

#include "api/call.h"
#include "serve/services.h"

namespace headrace::serve {

// Answers the exchange, now or later: with `count`, only how many tokens the prompt has. Called on a worker.
void Generate(Services* services, std::shared_ptr<http::Exchange> exchange, api::Dialect dialect, bool count,
              Caller caller);

}  // namespace headrace::serve
