// Refusals: in the words of the API that was asked.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/fault.h"
#include "serve/services.h"

namespace headrace::serve {

// Headers that every answer has.
std::vector<std::pair<std::string, std::string>> AnswerHeaders(const Caller& caller,
                                                               const Allowance& allowance,
                                                               const std::vector<std::string>& unknown);

// Faults that several endpoints meet. The optional ones: empty where there is none.
api::Fault ShuttingDown();
api::Fault DeadlinePassed();
api::Fault NoSuchModel(const Services& services, const std::string& name);
std::optional<api::Fault> UnknownFields(const Services& services, const std::vector<std::string>& unknown);
// A text that cannot have so few tokens as the model takes: it is not cut to find that out, since a megabyte
// takes a second. `field`: where it was.
std::optional<api::Fault> CannotFit(const Served& served, size_t bytes, const std::string& field);
// Whether the model has the tokens; the fault is of the first that it has not, as `path(i)` names its place.
std::optional<api::Fault> NotTokens(const Served& served, const std::vector<model::Token>& tokens,
                                    const std::function<std::string(size_t)>& path);
// The same, of a list at `field`: its entries are field[0], field[1], ...
std::optional<api::Fault> NotTokens(const Served& served, const std::vector<model::Token>& tokens,
                                    const std::string& field);

// Whether the client speaks Anthropic's API: its errors have another shape.
bool SpeaksAnthropic(const http::HttpRequest& request);

// The fault as an answer to the request. `headers`: as AnswerHeaders makes them.
http::HttpResponse FaultAnswer(const api::Fault& fault, const http::HttpRequest& request,
                               const std::string& request_id,
                               std::vector<std::pair<std::string, std::string>> headers);

}  // namespace headrace::serve
