#include "serve/strangers.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

#include "base/utf8.h"

namespace headrace::serve {
namespace {

// Of "name:port" or "[address]:port", without brackets.
std::string HostName(std::string_view authority) {
  if (authority.starts_with('[')) return std::string(authority.substr(1, authority.find(']') - 1));
  return std::string(authority.substr(0, authority.find(':')));
}

bool IsAddress(const std::string& host) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, host.c_str(), bytes) == 1 || inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

bool IsJson(std::string_view type) {
  const std::string kind = AsciiLower(type.substr(0, type.find(';')));
  return kind.find("json") != std::string::npos;
}

// A page's origin that may ask: one of --cors-origins, the server's own, an application's that is no web
// page, or, where nobody else can ask, one of this machine's.
bool MayAsk(const std::string& origin, const std::string& host, const StrangerRules& rules,
            const Cors& cors) {
  if (cors.Allows(origin)) return true;
  const size_t scheme = origin.find("://");
  if (scheme == std::string::npos) return false;  // "null"
  if (!origin.starts_with("http://") && !origin.starts_with("https://")) return true;
  const std::string authority = origin.substr(scheme + 3);
  return authority == host || (rules.loopback && IsLoopback(HostName(authority)));
}

}  // namespace

bool IsLoopback(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return host == "localhost" || host.ends_with(".localhost") || host == "::1" ||
         (host.starts_with("127.") && IsAddress(std::string(host)));
}

std::optional<api::Fault> StrangerFault(const http::HttpRequest& head, const StrangerRules& rules,
                                        const Cors& cors) {
  const std::string host = AsciiLower(head.Header("host")), origin = AsciiLower(head.Header("origin"));
  const std::string name = HostName(host), site = AsciiLower(head.Header("sec-fetch-site"));
  const bool known = name.empty() || IsLoopback(name) || IsAddress(name) ||
                     std::find(rules.hosts.begin(), rules.hosts.end(), name) != rules.hosts.end();
  if (rules.loopback && !known)
    return api::Fault{403, "host_not_allowed", "",
                      "'" + name.substr(0, 256) +
                          "' is not a name of this server: without a key it is asked as localhost, or by a "
                          "name of --allow-host"};
  const bool reads = head.method == "GET" || head.method == "HEAD" || head.method == "OPTIONS";
  const bool elsewhere = !origin.empty() ? !MayAsk(origin, host, rules, cors)
                                         : !reads && (site == "cross-site" || site == "same-site");
  if (elsewhere)
    return api::Fault{403, "origin_not_allowed", "",
                      "a page of " + (origin.empty() ? "another site" : origin.substr(0, 256)) +
                          " may not ask here without a key: --cors-origins names those that may"};
  const std::string_view type = head.Header("content-type");
  const bool browser = !origin.empty() || !site.empty();
  if (browser && !reads && !type.empty() && !IsJson(type))
    return api::Fault{415, "", "",
                      "a page sends its body as application/json, not " + std::string(type.substr(0, 256))};
  return std::nullopt;
}

}  // namespace headrace::serve
