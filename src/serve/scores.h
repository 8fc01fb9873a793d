// scores: /v1/scores, what somebody thinks of an answer.
#pragma once

#include <memory>

#include "serve/ticket.h"

namespace headrace::serve {

// Answers the ticket's request. Called on a worker.
void Scores(const std::shared_ptr<Ticket>& ticket);

}  // namespace headrace::serve
