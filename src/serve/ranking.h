// ranking: /v1/rerank and /v1/score.
#pragma once

#include <memory>

#include "serve/ticket.h"

namespace headrace::serve {

// Answer the ticket's request, now or later. Called on a worker.
void Rerank(const std::shared_ptr<Ticket>& ticket);      // documents by how well they fit a query
void PairScores(const std::shared_ptr<Ticket>& ticket);  // as vLLM's /score

}  // namespace headrace::serve
