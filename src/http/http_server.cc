#include "http/http_server.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <csignal>
#include <list>
#include <thread>

#include "http/connection.h"
#include "http/http2_connection.h"

namespace headrace::http {
namespace {

using asio::ip::tcp;
using Local = asio::local::stream_protocol;

constexpr std::string_view kUnix = "unix:";
constexpr mode_t kOwnerAndGroup = 0660;

std::string PeerName(const tcp::socket& socket) {
  error_code ignored;
  return socket.remote_endpoint(ignored).address().to_string();
}
std::string PeerName(const Local::socket&) { return "unix"; }

// Of what a client offers, "h2" (RFC 7301): one that offers something, and not that, is told so.
int ChooseHttp2(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* offered,
                unsigned offered_size, void*) {
  static constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  return SSL_select_next_proto(const_cast<unsigned char**>(out), size, kHttp2, sizeof kHttp2, offered,
                               offered_size) == OPENSSL_NPN_NEGOTIATED
             ? SSL_TLSEXT_ERR_OK
             : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// What listens at TCP ports, and what is spoken there.
struct Door {
  tcp::acceptor acceptor;
  bool http2 = false;
};

class BeastServer final : public HttpServer {
 public:
  BeastServer(HttpOptions options, Handler handler)
      : shared_(std::make_shared<Shared>()), stay_(asio::make_work_guard(io_)) {
    shared_->loop = std::make_shared<Loop>(&io_);
    shared_->options = std::move(options);
    shared_->handler = std::move(handler);
  }
  ~BeastServer() override {
    io_.stop();
    if (thread_.joinable()) thread_.join();
    shared_->loop->Ended();
    for (const std::string& path : files_) unlink(path.c_str());
  }

  Status Open() {
    const HttpOptions& options = shared_->options;
    if (options.certificate.empty() != options.private_key.empty())
      return Status::Invalid("TLS needs both a certificate and its private key");
    if (!options.certificate.empty()) {
      HEADRACE_ASSIGN(tls_, Tls());
      HEADRACE_ASSIGN(http2_tls_, Tls());
      SSL_CTX_set_alpn_select_cb(http2_tls_->native_handle(), ChooseHttp2, nullptr);
    }
    if (options.hosts.empty()) return Status::Invalid("there is no host to listen at");
    uint16_t port = options.port;
    for (const std::string& host : options.hosts)
      HEADRACE_TRY(host.starts_with(kUnix) ? ListenAtFile(host.substr(kUnix.size()))
                                           : ListenAt(host, false, &port));
    if (!doors_.empty()) port_ = port;
    if (options.http2) {
      if (doors_.empty()) return Status::Invalid("HTTP/2 has a TCP port, and all hosts are socket files");
      http2_port_ = options.http2->port;
      for (const std::string& host : options.hosts)
        if (!host.starts_with(kUnix)) HEADRACE_TRY(ListenAt(host, true, &http2_port_));
    }
    std::signal(SIGPIPE, SIG_IGN);
    for (Door& door : doors_) asio::co_spawn(io_, Accept(&door.acceptor, door.http2), asio::detached);
    for (Local::acceptor& acceptor : local_) asio::co_spawn(io_, Accept(&acceptor, false), asio::detached);
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(),
                         "hr-http");  // told apart in top -H, and by the benchmark of overhead
      shared_->loop->IsThisThread();
      io_.run();
    });
    return Status::Ok();
  }

  uint16_t port() const override { return port_; }
  uint16_t http2_port() const override { return http2_port_; }
  HttpStats stats() const override {
    return {shared_->connections, shared_->answering, shared_->accepted, shared_->refused,
            shared_->gone,        shared_->malformed, shared_->too_slow};
  }
  void After(double seconds, std::function<void()> work) override {
    auto timer = std::make_shared<asio::steady_timer>(io_, Milliseconds(seconds));
    timer->async_wait([timer, work = std::move(work)](error_code error) {
      if (!error) work();
    });
  }
  void Drain() override {
    shared_->draining = true;
    asio::post(io_, [this] {
      error_code ignored;
      for (Door& door : doors_) door.acceptor.close(ignored);
      for (Local::acceptor& acceptor : local_) acceptor.close(ignored);
    });
    const std::lock_guard lock(mutex_);
    for (const auto& weak : open_)
      if (const auto connection = weak.lock()) connection->CloseIfIdle();
  }

  bool WaitUntilAnswered(double seconds, const StopToken& stop) override {
    return shared_->WaitUntilAnswered(seconds, stop);
  }

 private:
  Result<std::unique_ptr<asio::ssl::context>> Tls() const {
    const HttpOptions& options = shared_->options;
    error_code error;
    auto tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
    tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                     asio::ssl::context::no_tlsv1_1);
    tls->use_certificate_chain_file(options.certificate, error);
    if (error)
      return Status::Invalid("cannot use the certificate " + options.certificate + ": " + error.message());
    tls->use_private_key_file(options.private_key, asio::ssl::context::pem, error);
    if (error)
      return Status::Invalid("cannot use the private key " + options.private_key + ": " + error.message());
    return tls;
  }

  // `wanted`: 0 for any free one, which it then is, for the next host.
  Status ListenAt(const std::string& host, bool http2, uint16_t* wanted) {
    error_code error;
    const uint16_t port = *wanted;
    tcp::resolver resolver(io_);
    const auto found = resolver.resolve(host, std::to_string(port), error);
    if (error || found.empty())
      return Status::Invalid("there is no address '" + host + "' here: " + error.message());
    const tcp::endpoint endpoint = *found.begin();
    tcp::acceptor acceptor(io_);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error && endpoint.protocol() == tcp::v6() && shared_->options.hosts.size() > 1)  // beside 0.0.0.0
      acceptor.set_option(asio::ip::v6_only(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      return Status::Io("cannot listen at " + host + ":" + std::to_string(port) + ": " + error.message() +
                        (error != asio::error::address_in_use ? ""
                         : http2                              ? "; name another with --otlp-grpc-port"
                                                              : "; name another with --port"));
    *wanted = acceptor.local_endpoint().port();
    doors_.push_back({std::move(acceptor), http2});
    return Status::Ok();
  }

  Status ListenAtFile(const std::string& path) {
    if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path))
      return Status::Invalid("the path of a socket file has 1 to " +
                             std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes: unix:" + path);
    error_code error;
    struct stat info {};
    if (lstat(path.c_str(), &info) == 0) {  // one that a killed server left is in the way of nobody
      if (!S_ISSOCK(info.st_mode)) return Status::Invalid(path + " is there already, and is no socket");
      Local::socket(io_).connect(Local::endpoint(path), error);
      if (!error) return Status::Io("somebody listens at unix:" + path + " already");
      unlink(path.c_str());
    }
    error = {};
    Local::acceptor acceptor(io_);
    acceptor.open(Local(), error);
    if (!error) acceptor.bind(Local::endpoint(path), error);
    if (!error) files_.push_back(path);
    if (!error && chmod(path.c_str(), kOwnerAndGroup) != 0)
      return Status::FromErrno(errno, "change the mode of", path);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) return Status::Io("cannot listen at unix:" + path + ": " + error.message());
    local_.push_back(std::move(acceptor));
    return Status::Ok();
  }

  template <typename Acceptor>
  asio::awaitable<void> Accept(Acceptor* acceptor, bool http2) {
    for (;;) {
      error_code error;
      typename Acceptor::protocol_type::socket socket(io_);
      co_await acceptor->async_accept(socket, redirect_error(use_awaitable, error));
      if (shared_->draining || error == asio::error::operation_aborted) co_return;
      if (error) {  // out of descriptors: wait for some
        asio::steady_timer pause(io_, std::chrono::milliseconds(100));
        co_await pause.async_wait(redirect_error(use_awaitable, error));
        continue;
      }
      ++shared_->accepted;
      if (shared_->connections >= shared_->options.max_connections) {
        ++shared_->refused;
        if (http2) continue;  // closed: clients try again
        const std::string body = shared_->ErrorBody(503, "there are too many connections; try again", "");
        const std::string text =
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: "
            "application/json\r\nContent-Length: " +
            std::to_string(body.size()) + "\r\n\r\n" + body;
        (void)::send(socket.native_handle(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        continue;
      }
      error_code ignored;
      const std::string peer = PeerName(socket);
      if constexpr (std::is_same_v<Acceptor, tcp::acceptor>) socket.set_option(tcp::no_delay(true), ignored);
      socket.non_blocking(true, ignored);
      PlainStream plain{asio::generic::stream_protocol::socket(std::move(socket))};
      const bool tls = tls_ && std::is_same_v<Acceptor, tcp::acceptor>;
      if (http2 && tls) {
        OpenHttp2(std::make_shared<Http2Connection<TlsStream>>(TlsStream(std::move(plain), *http2_tls_),
                                                               shared_, peer));
      } else if (http2) {
        OpenHttp2(std::make_shared<Http2Connection<PlainStream>>(std::move(plain), shared_, peer));
      } else if (tls) {
        Open(std::make_shared<Connection<TlsStream>>(TlsStream(std::move(plain), *tls_), shared_, peer));
      } else {
        Open(std::make_shared<Connection<PlainStream>>(std::move(plain), shared_, peer));
      }
    }
  }

  template <typename Stream>
  void Open(std::shared_ptr<Connection<Stream>> connection) {
    Remember(connection);
    asio::co_spawn(
        io_, [connection]() -> asio::awaitable<void> { co_await connection->Run(); }, asio::detached);
  }
  template <typename Stream>
  void OpenHttp2(std::shared_ptr<Http2Connection<Stream>> connection) {
    Remember(connection);
    connection->Run();
  }
  void Remember(const std::shared_ptr<Closable>& connection) {
    const std::lock_guard lock(mutex_);
    if (open_.size() >= 64 && open_.size() >= 2 * static_cast<size_t>(shared_->connections.load()))
      std::erase_if(open_, [](const auto& weak) { return weak.expired(); });
    open_.push_back(connection);
  }

  std::shared_ptr<Shared> shared_;
  // One thread is the network's: what belongs to a connection needs no lock, and a write costs about what the
  // kernel takes for it. Whatever takes long runs elsewhere.
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> stay_;
  std::unique_ptr<asio::ssl::context> tls_, http2_tls_;
  std::list<Door> doors_;
  std::list<Local::acceptor> local_;
  std::vector<std::string> files_;  // socket files, which go with the server
  uint16_t port_ = 0, http2_port_ = 0;
  std::mutex mutex_;
  std::vector<std::weak_ptr<Closable>> open_;
  std::thread thread_;
};

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (beast::iequals(key, name)) return value;
  return {};
}

std::string QueryValue(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    if (part.size() > name.size() && part.starts_with(name) && part[name.size()] == '=')
      return Unescaped(part.substr(name.size() + 1));
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return "";
}

Result<std::unique_ptr<HttpServer>> HttpServer::Start(HttpOptions options, Handler handler) {
  auto server = std::make_unique<BeastServer>(std::move(options), std::move(handler));
  HEADRACE_TRY(server->Open());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace headrace::http
