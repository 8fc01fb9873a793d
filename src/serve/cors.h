// cors: which web pages may use this server from a browser (fetch.spec.whatwg.org, "CORS protocol"). Pure.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "http/http_server.h"

namespace headrace::serve {

class Cors {
 public:
  // Origins as browsers send them ("https://example.org", a port where it is not the scheme's), or "*": any.
  // None: no page may.
  static Result<Cors> Make(std::vector<std::string> origins);

  bool Allows(std::string_view origin) const;
  // Puts into the answer what tells the browser that the page may read it: nothing where the request names no
  // origin, or one that may not.
  void Tell(const http::HttpRequest& request, http::HttpResponse* response) const;
  // The answer to OPTIONS at a path that takes `methods` ("GET, DELETE").
  http::HttpResponse Preflight(const http::HttpRequest& request, const std::string& methods) const;

 private:
  bool any_ = false;
  std::vector<std::string> origins_;
};

}  // namespace headrace::serve
