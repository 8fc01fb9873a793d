#include "http/http_server.h"

#include <pthread.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <csignal>
#include <thread>

#include "http/connection.h"

namespace headrace::http {
namespace {

using asio::ip::tcp;

class BeastServer final : public HttpServer {
 public:
  BeastServer(HttpOptions options, Handler handler)
      : shared_(std::make_shared<Shared>()), stay_(asio::make_work_guard(io_)), acceptor_(io_) {
    shared_->loop = std::make_shared<Loop>(&io_);
    shared_->options = std::move(options);
    shared_->handler = std::move(handler);
  }
  ~BeastServer() override {
    io_.stop();
    if (thread_.joinable()) thread_.join();
    shared_->loop->Ended();
  }

  Status Open() {
    const HttpOptions& options = shared_->options;
    if (options.certificate.empty() != options.private_key.empty())
      return Status::Invalid("TLS needs both a certificate and its private key");
    error_code error;
    if (!options.certificate.empty()) {
      tls_ = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
      tls_->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                        asio::ssl::context::no_tlsv1_1);
      tls_->use_certificate_chain_file(options.certificate, error);
      if (error)
        return Status::Invalid("cannot use the certificate " + options.certificate + ": " + error.message());
      tls_->use_private_key_file(options.private_key, asio::ssl::context::pem, error);
      if (error)
        return Status::Invalid("cannot use the private key " + options.private_key + ": " + error.message());
    }
    tcp::resolver resolver(io_);
    const auto found = resolver.resolve(options.host, std::to_string(options.port), error);
    if (error || found.empty())
      return Status::Invalid("there is no address '" + options.host + "' here: " + error.message());
    const tcp::endpoint endpoint = *found.begin();
    const std::string where = options.host + ":" + std::to_string(options.port);
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      return Status::Io("cannot listen at " + where + ": " + error.message() +
                        (error == asio::error::address_in_use ? "; name another with --port" : ""));
    port_ = acceptor_.local_endpoint().port();
    std::signal(SIGPIPE, SIG_IGN);
    asio::co_spawn(io_, Accept(), asio::detached);
    thread_ = std::thread([this] {
      pthread_setname_np(pthread_self(),
                         "hr-http");  // told apart in top -H, and by the benchmark of overhead
      shared_->loop->IsThisThread();
      io_.run();
    });
    return Status::Ok();
  }

  uint16_t port() const override { return port_; }
  HttpStats stats() const override {
    return {shared_->connections, shared_->accepted,  shared_->refused,
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
      acceptor_.close(ignored);
    });
    const std::lock_guard lock(mutex_);
    for (const auto& weak : open_)
      if (const auto connection = weak.lock()) connection->CloseIfIdle();
  }

 private:
  asio::awaitable<void> Accept() {
    for (;;) {
      error_code error;
      tcp::socket socket(io_);
      co_await acceptor_.async_accept(socket, redirect_error(use_awaitable, error));
      if (shared_->draining || error == asio::error::operation_aborted) co_return;
      if (error) {  // out of descriptors: wait for some
        asio::steady_timer pause(io_, std::chrono::milliseconds(100));
        co_await pause.async_wait(redirect_error(use_awaitable, error));
        continue;
      }
      ++shared_->accepted;
      if (shared_->connections >= shared_->options.max_connections) {
        ++shared_->refused;
        const std::string body = shared_->ErrorBody(503, "there are too many connections; try again");
        const std::string text =
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: "
            "application/json\r\nContent-Length: " +
            std::to_string(body.size()) + "\r\n\r\n" + body;
        (void)::send(socket.native_handle(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        continue;
      }
      error_code ignored;
      const std::string peer = socket.remote_endpoint(ignored).address().to_string();
      socket.set_option(tcp::no_delay(true), ignored);
      socket.non_blocking(true, ignored);
      if (tls_) {
        Open(std::make_shared<Connection<TlsStream>>(TlsStream(beast::tcp_stream(std::move(socket)), *tls_),
                                                     shared_, peer));
      } else {
        Open(std::make_shared<Connection<PlainStream>>(PlainStream(std::move(socket)), shared_, peer));
      }
    }
  }

  template <typename Stream>
  void Open(std::shared_ptr<Connection<Stream>> connection) {
    {
      const std::lock_guard lock(mutex_);
      if (open_.size() >= 64 && open_.size() >= 2 * static_cast<size_t>(shared_->connections.load()))
        std::erase_if(open_, [](const auto& weak) { return weak.expired(); });
      open_.push_back(connection);
    }
    asio::co_spawn(
        io_, [connection]() -> asio::awaitable<void> { co_await connection->Run(); }, asio::detached);
  }

  std::shared_ptr<Shared> shared_;
  // One thread is the network's: what belongs to a connection needs no lock, and a write costs about what the
  // kernel takes for it. Whatever takes long runs elsewhere.
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> stay_;
  std::unique_ptr<asio::ssl::context> tls_;
  tcp::acceptor acceptor_;
  uint16_t port_ = 0;
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
