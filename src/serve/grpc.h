// grpc: OpenTelemetry's receiver over gRPC (OTLP/gRPC 1.x): what /v1/traces takes, over HTTP/2.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "api/fault.h"
#include "serve/routes.h"
#include "serve/ticket.h"

namespace headrace::serve {

// The calls that are served, as FindRoute has those of HTTP.
Match FindCall(std::string_view method, std::string_view path);

// What a request that is no call of gRPC is told (415); nothing where it is one.
std::optional<http::HttpResponse> NoCall(const http::HttpRequest& head);

// The fault as gRPC says it: a status in the trailers alone. `headers`: as AnswerHeaders makes them.
http::HttpResponse CallFault(const api::Fault& fault,
                             std::vector<std::pair<std::string, std::string>> headers);

}  // namespace headrace::serve
