#include "serve/cors.h"

#include <algorithm>

#include "base/utf8.h"

namespace headrace::serve {
namespace {

constexpr char kShown[] =
    "x-request-id, x-headrace-ignored, retry-after, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    "x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens";
// Where the browser does not say which headers the page wants to send.
constexpr char kTaken[] = "authorization, content-type, x-api-key, api-key, anthropic-version";
constexpr char kPreflightSeconds[] = "600";  // that a browser may remember a preflight

// Names of headers, as HTTP has them: a browser sends nothing else, and nothing else is sent back.
bool AreNames(std::string_view text) {
  return !text.empty() && text.size() <= 4096 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == ',' || c == ' ';
  });
}

}  // namespace

Result<Cors> Cors::Make(std::vector<std::string> origins) {
  Cors cors;
  for (std::string& origin : origins) {
    if (origin == "*") {
      cors.any_ = true;
      continue;
    }
    const size_t host = origin.find("://");
    if (origin != "null" && (host == std::string::npos || host + 3 >= origin.size() ||
                             origin.find_first_of("/ *?#", host + 3) != std::string::npos))
      return Status::Invalid(
          "--cors-origins has '" + origin +
          "'; an origin is like https://example.org or http://localhost:3000, and * is any");
    cors.origins_.push_back(AsciiLower(origin));
  }
  return cors;
}

bool Cors::Allows(std::string_view origin) const {
  if (origin.empty()) return false;
  return any_ || std::find(origins_.begin(), origins_.end(), AsciiLower(origin)) != origins_.end();
}

void Cors::Tell(const http::HttpRequest& request, http::HttpResponse* response) const {
  auto& headers = response->headers;
  if (!any_ && !origins_.empty()) headers.emplace_back("Vary", "Origin");
  const std::string_view origin = request.Header("origin");
  if (!Allows(origin)) return;
  headers.emplace_back("Access-Control-Allow-Origin", any_ ? "*" : std::string(origin));
  headers.emplace_back("Access-Control-Expose-Headers", kShown);
}

http::HttpResponse Cors::Preflight(const http::HttpRequest& request, const std::string& methods) const {
  http::HttpResponse response{204, {{"Allow", methods + ", OPTIONS"}}, "", ""};
  if (!Allows(request.Header("origin"))) return response;
  const std::string_view wanted = request.Header("access-control-request-headers");
  response.headers.emplace_back("Access-Control-Allow-Methods", methods);
  response.headers.emplace_back("Access-Control-Allow-Headers",
                                AreNames(wanted) ? std::string(wanted) : std::string(kTaken));
  response.headers.emplace_back("Access-Control-Max-Age", kPreflightSeconds);
  // wicg.github.io/private-network-access: a page of the internet asks a server of the local network.
  if (request.Header("access-control-request-private-network") == "true")
    response.headers.emplace_back("Access-Control-Allow-Private-Network", "true");
  return response;
}

}  // namespace headrace::serve
