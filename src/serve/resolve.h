// resolve: what a call names and the server knows: earlier responses, and tokens of words.
#pragma once

#include <optional>

#include "api/call.h"
#include "serve/services.h"

namespace headrace::serve {

// Of /v1/responses: whether it is kept, and, where it names an earlier one, what that said.
std::optional<api::Fault> GoOn(Services* services, const Caller& caller, api::Call* call);

// The tokens of bad_words and of texts in logit_bias, and whether stop_token_ids are the model's.
std::optional<api::Fault> FindTokens(const Served& served, api::Call* call);

}  // namespace headrace::serve
