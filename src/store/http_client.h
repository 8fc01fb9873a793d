// HTTP requests over libcurl: one thread drives them all, up to 64 at once, connections are kept and reused.
#pragma once

#include <cstdint>
#include <future>
#include <map>
#include <memory>
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
  int64_t max_response_bytes = int64_t{1} << 40;
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // lower-case names
  std::string body;
};

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
