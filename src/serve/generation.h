// Generation: one call for text, from its body to its last byte.
#pragma once

#include <memory>

#include "api/call.h"
#include "serve/services.h"

namespace headrace::serve {

// Answers the exchange, now or later. Called on a worker.
void Generate(Services* services, std::shared_ptr<http::Exchange> exchange, api::Dialect dialect,
              Caller caller);

// A refusal, in the words of the API that was asked, counted and recorded.
void Refuse(Services* services, http::Exchange* exchange, const Caller& caller, const api::Fault& fault,
            const Allowance* allowance = nullptr);

// Headers that every answer has.
std::vector<std::pair<std::string, std::string>> AnswerHeaders(const Caller& caller,
                                                               const Allowance& allowance,
                                                               const std::vector<std::string>& unknown);

// Where the time of a request went, in one line.
std::string Why(const engine::Usage& usage, engine::Finish finish, double total_seconds);

}  // namespace headrace::serve
