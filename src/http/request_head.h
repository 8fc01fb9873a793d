// What stands in a request's first lines (RFC 9112, 3).
#pragma once

#include <boost/beast/http.hpp>
#include <string>
#include <string_view>

#include "http/http_server.h"

namespace headrace::http {

// Percent-encoding undone; what is none stays.
std::string Unescaped(std::string_view text);

// A request without its body. kInvalid: HTTP/1.1 without one Host, or a target that is none. A target in
// absolute form (as to a proxy) names the host itself.
Result<HttpRequest> ReadHead(const boost::beast::http::request_header<>& head);

// The path and the query of a target that begins with '/', or is "*".
void SplitTarget(std::string_view target, HttpRequest* request);

// A body that came compressed becomes what it was, at most so many bytes; as Exchange::DecodeBody says.
Status Inflate(HttpRequest* request, int64_t most);

}  // namespace headrace::http
