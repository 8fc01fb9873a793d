// Generation: one call for text, from its body to its last byte.
#pragma once

#include <memory>

#include "api/call.h"
#include "serve/ticket.h"

namespace headrace::serve {

// What of a call is wanted: its answer, how many tokens its prompt has, or the prompt itself.
enum class Want { kAnswer, kCount, kPrompt };

// Answers the ticket's request, now or later. Called on a worker.
void Generate(std::shared_ptr<Ticket> ticket, api::Dialect dialect, Want want);

}  // namespace headrace::serve
