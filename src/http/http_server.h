// http: connections, and what is asked on them. Nothing here knows of models: a Handler gets an Exchange and
// answers it, at once or later, from any thread. HTTP/1.1 by Boost.Beast, HTTP/2 (at a port of its own) by
// nghttp2, TLS by OpenSSL.
//
//   HEADRACE_ASSIGN(auto server, HttpServer::Start({.port = 8000}, [](std::shared_ptr<Exchange> exchange) {
//     exchange->Answer({200, {}, "hello"});
//   }));
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cancel.h"
#include "base/status.h"

namespace headrace::http {

struct HttpRequest {
  std::string method, path, query;  // the path without the query, percent-encoding undone
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::string peer;    // "127.0.0.1"; "unix"
  bool http2 = false;  // it came over HTTP/2: names of headers are in lower case
  // Case does not matter; "" where there is none.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::string type = "application/json";
  std::vector<std::pair<std::string, std::string>> trailers = {};  // after the body; of HTTP/2 alone
};

// HTTP/2 without an HTTP/1.1 before it (RFC 9113, 3.3: by prior knowledge, or ALPN with TLS), at the same
// hosts as HTTP/1.1 but not at socket files. Answers are whole: pieces are gathered until their end.
struct Http2Options {
  uint16_t port = 0;      // 0: any free one
  int max_streams = 100;  // requests of one connection at once, those that the peer gave up included
  // The answer to what is too large (413), too slow (408), or for which there is no room (503).
  std::function<HttpResponse(int status, const std::string& message)> fault;
};

struct HttpOptions {
  // Addresses and names of this machine, and "unix:PATH": a socket file, which its owner and group may use.
  std::vector<std::string> hosts = {"127.0.0.1"};
  uint16_t port = 8000;     // of all hosts; 0: any free one
  std::string certificate;  // PEM files; TLS where both are given
  std::string private_key;
  int64_t max_body = 32 << 20;     // bytes of one, also once it is inflated
  int64_t max_bodies = 256 << 20;  // of all that have come and whose request is not answered: more are 503
  int64_t max_header = 64 << 10;
  int max_connections = 4096;
  double header_seconds = 15;  // from a connection's first byte, or from the last answer, to a whole header
  double idle_seconds = 90;    // without a request
  double body_seconds = 60;    // for a body to arrive
  double write_seconds = 30;   // in which a peer takes nothing of what is written
  // The body of an answer to what is not HTTP, too large or too slow; the path is "" where it is not known.
  std::function<std::string(int status, const std::string& message, const std::string& path)> error_body;
  // Looks at a request before its body is read: an answer refuses it, and the connection ends. On the
  // network's thread: it must not block.
  std::function<std::optional<HttpResponse>(const HttpRequest& head)> on_header;
  // Adds to the head of every answer of HTTP/1.1 what all have, before it is sent.
  std::function<void(const HttpRequest& request, HttpResponse* head)> finish_head;
  std::optional<Http2Options> http2;  // beside HTTP/1.1, within the same limits
};

// The value of a name in a query ("a=1&b=2"), percent-encoding undone; "" where there is none.
std::string QueryValue(std::string_view query, std::string_view name);

// One request and its answer. Thread-safe.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  // Inflates a body that came compressed: before it is read, and not on the network's thread. kUnsupported:
  // in an encoding that is not read; kLimit: it is too large; kInvalid: it is damaged.
  virtual Status DecodeBody() = 0;

  // The whole answer, once.
  virtual void Answer(HttpResponse response) = 0;
  // Or a stream: its head, pieces, an end. Pieces wait in memory for a slow peer; one that takes nothing for
  // `write_seconds` is gone.
  virtual void Begin(HttpResponse head) = 0;
  virtual void Send(std::string piece) = 0;
  virtual void End(std::string last) = 0;  // "" for no more bytes
  // Called on the network's thread if the peer hangs up, or stops reading, before the answer's end; never
  // after.
  virtual void OnGone(std::function<void()> call) = 0;
  // Runs on the network's thread, after what was posted before: what belongs to one exchange needs no lock.
  virtual void Post(std::function<void()> work) = 0;
};

using Handler = std::function<void(std::shared_ptr<Exchange>)>;  // on the network's thread: it must not block

struct HttpStats {
  int64_t connections = 0;  // open
  int64_t answering = 0;    // requests whose last byte is not written yet
  int64_t accepted = 0, refused = 0, gone = 0, malformed = 0, too_slow = 0;
};

class HttpServer {
 public:
  static Result<std::unique_ptr<HttpServer>> Start(HttpOptions options, Handler handler);
  virtual ~HttpServer() = default;  // stops

  virtual uint16_t port() const = 0;        // 0 where all hosts are socket files
  virtual uint16_t http2_port() const = 0;  // 0 where there is none
  virtual HttpStats stats() const = 0;
  // Runs later on the network's thread.
  virtual void After(double seconds, std::function<void()> work) = 0;
  // No new connections; idle ones close, others after their answer.
  virtual void Drain() = 0;
  // Waits until no request is being answered (HttpStats), at most so long or until `stop`. Whether that is
  // so.
  virtual bool WaitUntilAnswered(double seconds, const StopToken& stop) = 0;
};

}  // namespace headrace::http
