#include "http/request_head.h"

#include <algorithm>
#include <utility>

#include "http/gzip.h"

namespace headrace::http {

std::string Unescaped(std::string_view text) {
  std::string out;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

Result<HttpRequest> ReadHead(const boost::beast::http::request_header<>& head) {
  namespace beast = boost::beast;
  HttpRequest request;
  request.method = std::string(head.method_string());
  const auto hosts = head.count(beast::http::field::host);
  if (hosts > 1) return Status::Invalid("the request has " + std::to_string(hosts) + " Host headers");
  if (hosts == 0 && head.version() >= 11)
    return Status::Invalid("a request of HTTP/1.1 has a Host header, and this one has none");
  for (const auto& field : head)
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  std::string_view target(head.target().data(), head.target().size());
  if (const size_t scheme = target.find("://");
      scheme != std::string_view::npos && !target.starts_with('/')) {
    const std::string_view name = target.substr(0, scheme);
    if (!beast::iequals(name, "http") && !beast::iequals(name, "https"))
      return Status::Invalid("the request's target has the scheme '" + std::string(name.substr(0, 32)) +
                             "'; http and https are served");
    target.remove_prefix(scheme + 3);
    const size_t end = std::min(target.find_first_of("/?"), target.size());
    const std::string authority(target.substr(0, end));
    if (authority.empty()) return Status::Invalid("the request's target names no host");
    target.remove_prefix(end);
    std::erase_if(request.headers, [](const auto& field) { return beast::iequals(field.first, "host"); });
    request.headers.emplace_back("Host", authority);
  }
  SplitTarget(target, &request);
  return request;
}

void SplitTarget(std::string_view target, HttpRequest* request) {
  const size_t question = target.find('?');
  request->path = Unescaped(target.substr(0, question));
  if (request->path.empty()) request->path = "/";
  if (question != std::string_view::npos) request->query = std::string(target.substr(question + 1));
}

Status Inflate(HttpRequest* request, int64_t most) {
  const std::string_view encoding = request->Header("content-encoding");
  if (encoding.empty() || encoding == "identity" || request->body.empty()) return Status::Ok();
  if (encoding != "gzip" && encoding != "x-gzip")
    return Status::Unsupported("a body in the encoding '" + std::string(encoding.substr(0, 64)) +
                               "' is not read here: send it as it is, or in gzip");
  HEADRACE_ASSIGN(request->body, Gunzip(request->body, most));
  std::erase_if(request->headers,
                [](const auto& field) { return boost::beast::iequals(field.first, "content-encoding"); });
  return Status::Ok();
}

}  // namespace headrace::http
