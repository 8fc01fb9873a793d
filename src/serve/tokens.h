// tokens: /tokenize, /detokenize and /tokenizer_info.
#pragma once

#include <memory>
#include <string>

#include "serve/ticket.h"

namespace headrace::serve {

// Answer the ticket's request. Called on a worker.
void Tokenize(const std::shared_ptr<Ticket>& ticket);
void Detokenize(const std::shared_ptr<Ticket>& ticket);

std::string TokenizerInfo(const Services& services);

}  // namespace headrace::serve
