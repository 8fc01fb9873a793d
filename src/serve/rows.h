// Rows of the table of traces, as serving fills them. Times are seconds, and microseconds since 1970.
#pragma once

#include <string>
#include <vector>

#include "api/answer.h"
#include "serve/services.h"
#include "serve/ticket.h"

namespace headrace::serve {

// What is known of any request when it comes.
nlohmann::json RequestRow(const Services& services, const http::HttpRequest& request, const Caller& caller,
                          const std::string& model);
// What a call for text adds. `prompt`: as rendered, the first of several.
nlohmann::json TextCallRow(const Recorder& recorder, const api::Call& call, const Chosen& chosen,
                           const std::string& prompt);

// How any request ended.
nlohmann::json EndRow(const Caller& caller, const Outcome& outcome);
// What one that a model began came to. `first_token`: on the monotonic clock, 0 where none came.
nlohmann::json UsageRow(const Caller& caller, const Outcome& outcome, double first_token);
// What answers add: their texts and calls.
nlohmann::json AnswersRow(const Recorder& recorder, const std::vector<api::Choice>& choices);

}  // namespace headrace::serve
