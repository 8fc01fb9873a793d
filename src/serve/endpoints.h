// The endpoints that are not generation.
#pragma once

#include <memory>

#include "api/call.h"
#include "serve/services.h"

namespace headrace::serve {

void Embeddings(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller);
void Rerank(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller);
void PairScores(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller);
void Tokenize(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller,
              bool back);
void Scores(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller);

std::string TokenizerInfo(const Services& services);
std::string MetricsText(Services* services);
// What is going on now: models, requests in flight.
std::string Load(const Services& services);
// {"status": "ok" | "degraded", …}
std::string Health(const Services& services);

}  // namespace headrace::serve
