// strangers: who asks without a key, where none is needed. A web page that somebody looks at can make the
// browser ask for it: at a name of its own that it points at this machine (DNS rebinding), or by a POST of
// the kind that no browser asks about before (fetch.spec.whatwg.org, "CORS-safelisted request-header"). Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/fault.h"
#include "http/http_server.h"
#include "serve/cors.h"

namespace headrace::serve {

struct StrangerRules {
  bool loopback = true;            // only this machine can reach the server
  std::vector<std::string> hosts;  // names of it, beside localhost and addresses
};

// Why a request without a key is refused; empty: it is not.
std::optional<api::Fault> StrangerFault(const http::HttpRequest& head, const StrangerRules& rules,
                                        const Cors& cors);

bool IsLoopback(std::string_view host);  // a name or an address, in brackets or not

}  // namespace headrace::serve
