// embeddings: /v1/embeddings.
#pragma once

#include <memory>

#include "serve/ticket.h"

namespace headrace::serve {

// Answers the ticket's request, now or later. Called on a worker.
void Embeddings(const std::shared_ptr<Ticket>& ticket);

}  // namespace headrace::serve
