// HTTP requests over libcurl: one thread drives them all, up to 64 at once, connections are kept and reused.
#pragma once

#include <cstdint>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::store {

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "name: value"
  std::string_view body;             // must outlive the answer
  double timeout_seconds = 60;
  double connect_seconds = 10;
  bool use_proxy = true;  // the one that http_proxy and the like name
  int64_t max_response_bytes = int64_t{1} << 40;
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // lower-case names
  std::string body;
};

// Microseconds since 1970 UTC of a Date header's text; nothing where it is none.
std::optional<int64_t> HttpDateMicros(const std::string& text);

class HttpClient {
 public:
  explicit HttpClient(int max_in_flight = 64);
  ~HttpClient();
  // The answer, whatever its status; Unavailable if there was none, Timeout if it took too long. Errors name
  // the host and path, never headers.
  std::future<Result<HttpResponse>> Send(HttpRequest request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headrace::store
