// Rows of the table of traces, as serving fills them. Times are seconds, and microseconds since 1970.
#pragma once

#include <string>
#include <vector>

#include "api/answer.h"
#include "serve/services.h"

namespace headrace::serve {

// What is known of any request when it comes.
nlohmann::json StartRow(const Services& services, const http::Exchange& exchange, const Caller& caller,
                        const std::string& model);
// … and of one for text. `prompt`: as rendered, the first of several.
nlohmann::json StartRow(const Services& services, const http::Exchange& exchange, const Caller& caller,
                        const api::Call& call, const Chosen& chosen, const std::string& prompt);

// How one for text ended. `usage`: of all its answers; `first_token`: on the monotonic clock, 0 where none
// came.
nlohmann::json EndRow(const Recorder& recorder, const Caller& caller, int status, const std::string& error,
                      const std::vector<api::Choice>& choices, const engine::Usage& usage,
                      double first_token);

}  // namespace headrace::serve
