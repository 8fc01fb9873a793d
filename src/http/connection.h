// Connection: one peer's requests, one after another, within the server's limits.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <cerrno>
#include <chrono>
#include <sstream>

#include "http/answering.h"

namespace headrace::http {

namespace beast = boost::beast;
namespace message = beast::http;
using asio::redirect_error;
using asio::use_awaitable;
using beast::error_code;
// TCP, or a socket file.
using PlainStream = beast::basic_stream<asio::generic::stream_protocol>;
using TlsStream = beast::ssl_stream<PlainStream>;

inline std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

inline std::string Unescaped(std::string_view text) {
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

// What a connection's exchanges share with the server.
struct Shared {
  std::shared_ptr<Loop> loop;
  HttpOptions options;
  Handler handler;
  std::atomic<bool> draining{false};
  std::atomic<int64_t> connections{0}, accepted{0}, refused{0}, gone{0}, malformed{0}, too_slow{0};

  std::string ErrorBody(int status, const std::string& message) const {
    return options.error_body ? options.error_body(status, message) : message + "\n";
  }
};

// Gives an operation on a socket some time, and cancels it then, but leaves the socket open: what was too
// slow is told so.
class Deadline {
 public:
  Deadline(PlainStream* stream, std::shared_ptr<void> owner, double seconds)
      : timer_(stream->get_executor(), Milliseconds(seconds)), passed_(std::make_shared<bool>(false)) {
    timer_.async_wait([stream, owner = std::move(owner), passed = passed_](error_code error) {
      if (error) return;
      *passed = true;
      stream->cancel();
    });
  }
  bool passed() const { return *passed_; }

 private:
  asio::steady_timer timer_;
  std::shared_ptr<bool> passed_;
};

class Closable {
 public:
  virtual ~Closable() = default;
  virtual void CloseIfIdle() = 0;
};

template <typename Stream>
class Connection final : public Closable, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  Connection(Stream stream, std::shared_ptr<Shared> shared, std::string peer)
      : stream_(std::move(stream)),
        shared_(std::move(shared)),
        peer_(std::move(peer)),
        wake_(stream_.get_executor(), asio::steady_timer::time_point::max()) {
    shared_->connections.fetch_add(1);
  }
  ~Connection() override { shared_->connections.fetch_sub(1); }

  void CloseIfIdle() override {
    asio::post(stream_.get_executor(), [self = this->shared_from_this()] {
      if (self->idle_) self->Close();
    });
  }

  asio::awaitable<void> Run() {
    error_code error;
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      Lowest().expires_after(Milliseconds(shared_->options.header_seconds));
      co_await stream_.async_handshake(asio::ssl::stream_base::server, redirect_error(use_awaitable, error));
      if (error) co_return Close();
    }
    for (;;) {
      auto answering = co_await ReadRequest();
      if (!answering) co_return Close();
      Watch(answering);
      shared_->handler(answering);
      const bool keep = co_await WriteAnswer(answering);
      answering->written_ = true;
      answering->on_gone_ = nullptr;
      if (!keep || shared_->draining) co_return Close();
    }
  }

 private:
  PlainStream& Lowest() { return beast::get_lowest_layer(stream_); }
  void Close() {
    error_code ignored;
    Lowest().socket().shutdown(asio::socket_base::shutdown_both, ignored);
    Lowest().close();
  }

  // Empty: the connection ends.
  asio::awaitable<std::shared_ptr<Answering>> ReadRequest() {
    const HttpOptions& options = shared_->options;
    message::request_parser<message::string_body> parser;
    parser.header_limit(static_cast<uint32_t>(options.max_header));
    parser.body_limit(static_cast<uint64_t>(options.max_body));
    error_code error;
    if (buffer_.size() == 0) {  // nobody has to say anything yet
      idle_ = true;
      if (shared_->draining) co_return nullptr;
      Lowest().expires_after(Milliseconds(options.idle_seconds));
      const size_t got =
          co_await stream_.async_read_some(buffer_.prepare(4096), redirect_error(use_awaitable, error));
      idle_ = false;
      if (error) co_return nullptr;
      buffer_.commit(got);
    }
    Lowest().expires_never();
    {
      const Deadline deadline(&Lowest(), this->shared_from_this(), options.header_seconds);
      co_await message::async_read_header(stream_, buffer_, parser, redirect_error(use_awaitable, error));
      if (error) co_return co_await Refuse(error, deadline.passed());
    }
    version_ = parser.get().version();
    keep_alive_ = parser.get().keep_alive();
    if (beast::iequals(parser.get()[message::field::expect], "100-continue")) {
      message::response<message::empty_body> go_on{message::status::continue_, version_};
      co_await message::async_write(stream_, go_on, redirect_error(use_awaitable, error));
      if (error) co_return nullptr;
    }
    {
      const Deadline deadline(&Lowest(), this->shared_from_this(), options.body_seconds);
      co_await message::async_read(stream_, buffer_, parser, redirect_error(use_awaitable, error));
      if (error) co_return co_await Refuse(error, deadline.passed());
    }
    auto message = parser.release();
    HttpRequest request;
    request.method = std::string(message.method_string());
    const std::string_view target(message.target().data(), message.target().size());
    const size_t question = target.find('?');
    request.path = Unescaped(target.substr(0, question));
    if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
    for (const auto& field : message)
      request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    request.body = std::move(message.body());
    request.peer = peer_;
    head_only_ = request.method == "HEAD";
    co_return std::make_shared<Answering>(shared_->loop, std::move(request), version_ >= 11,
                                          shared_->options.finish_head);
  }

  // Tells what is wrong with a request that cannot be read, where there is a point in it.
  asio::awaitable<std::shared_ptr<Answering>> Refuse(error_code error, bool late) {
    int status = 0;
    std::string message;
    if (error == message::error::body_limit) {
      status = 413;
      message = "the body is larger than " + std::to_string(shared_->options.max_body) + " bytes";
    } else if (error == message::error::header_limit) {
      status = 431;
      message = "the header is larger than " + std::to_string(shared_->options.max_header) + " bytes";
    } else if (late) {
      ++shared_->too_slow;
      status = 408;
      message = "the request did not arrive in time";
    } else if (error.category() == message::make_error_code(message::error::bad_method).category() &&
               error != message::error::end_of_stream && error != message::error::partial_message) {
      ++shared_->malformed;
      status = 400;
      message = "this is not HTTP/1.1: " + error.message();
    }
    if (status == 0) co_return nullptr;
    keep_alive_ = false;
    version_ = 11;
    HttpResponse response{status, {}, shared_->ErrorBody(status, message)};
    co_await WriteWhole(response);
    // A peer that is still sending would get a reset instead of the answer: what it sends is taken a while.
    error_code ignored;
    Lowest().socket().shutdown(asio::socket_base::shutdown_send, ignored);
    Lowest().expires_after(std::chrono::seconds(2));
    char waste[4096];
    for (size_t taken = 0; taken < (8U << 20);) {
      const size_t got =
          co_await Lowest().async_read_some(asio::buffer(waste), redirect_error(use_awaitable, error));
      if (error) break;
      taken += got;
    }
    co_return nullptr;
  }
  // Looks whether the peer hangs up while its answer is made.
  void Watch(const std::shared_ptr<Answering>& answering) {
    if (watching_) return;
    watching_ = true;
    watched_ = answering;
    Lowest().socket().async_wait(
        asio::socket_base::wait_read, [self = this->shared_from_this()](error_code error) {
          self->watching_ = false;
          const auto now = self->watched_.lock();
          if (error || !now) return;
          char byte;
          const ssize_t got =
              recv(self->Lowest().socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
          // Something to read is the next request, ahead of time, or TLS taking leave: not looked at before
          // this answer is done.
          if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) now->Gone();
        });
  }

  message::response<message::empty_body> Head(const HttpResponse& from) const {
    message::response<message::empty_body> head;
    head.result(static_cast<unsigned>(from.status));
    head.version(version_);
    head.set(message::field::server, "headrace");
    if (!from.type.empty()) head.set(message::field::content_type, from.type);
    for (const auto& [name, value] : from.headers) head.set(name, value);
    head.keep_alive(keep_alive_ && !shared_->draining);
    return head;
  }

  asio::awaitable<bool> WriteWhole(const HttpResponse& from) {
    error_code error;
    message::response<message::string_body> response{Head(from).base()};
    response.body() = from.body;
    if (from.status != 204) response.content_length(from.body.size());  // RFC 9110, 8.6
    if (head_only_) response.body().clear();
    Lowest().expires_after(Milliseconds(shared_->options.write_seconds));
    message::response_serializer<message::string_body> serializer(response);
    if (head_only_) {
      co_await message::async_write_header(stream_, serializer, redirect_error(use_awaitable, error));
    } else {
      co_await message::async_write(stream_, serializer, redirect_error(use_awaitable, error));
    }
    co_return !error && response.keep_alive();
  }

  // While it lives, the answer wakes this connection.
  class Waking {
   public:
    Waking(Answering* answering, asio::steady_timer* wake) : answering_(answering) {
      answering->wake_ = wake;
    }
    ~Waking() {
      answering_->wake_ = nullptr;
      answering_->write_now_ = nullptr;
    }
    Waking(const Waking&) = delete;
    Waking& operator=(const Waking&) = delete;

   private:
    Answering* answering_;
  };

  // False: the connection ends.
  asio::awaitable<bool> WriteAnswer(const std::shared_ptr<Answering>& a) {
    error_code error;
    Lowest().expires_never();
    const Waking waking(a.get(), &wake_);
    const auto wait = [&]() -> asio::awaitable<void> {
      error_code woken;
      co_await wake_.async_wait(redirect_error(use_awaitable, woken));
    };
    while (!a->head_ && !a->gone_ && !a->ended_) co_await wait();
    if (a->gone_ || !a->head_) co_return Lost(a);
    if (a->whole_) {
      const bool keep = co_await WriteWhole(*a->head_);
      co_return keep;
    }
    if (!a->chunks_) keep_alive_ = false;
    message::response<message::empty_body> head = Head(*a->head_);
    if (a->chunks_) head.chunked(true);
    std::ostringstream told;
    told << head.base();
    a->out_.insert(0, told.str());  // with the first pieces, where they are there
    while (!a->gone_ && (!a->out_.empty() || !a->ended_)) {
      if (a->out_.empty()) {
        Lowest().expires_never();
        if constexpr (std::is_same_v<Stream, PlainStream>)
          a->write_now_ = [this](std::string_view bytes) {
            error_code later;  // would block, or broken: the write below meets it
            return Lowest().socket().write_some(asio::buffer(bytes.data(), bytes.size()), later);
          };
        co_await wait();
        a->write_now_ = nullptr;
        continue;
      }
      const std::string bytes = std::exchange(a->out_, {});
      Lowest().expires_after(Milliseconds(shared_->options.write_seconds));
      co_await asio::async_write(stream_, asio::buffer(bytes), redirect_error(use_awaitable, error));
      if (error == beast::error::timeout) ++shared_->too_slow;
      if (error) break;
    }
    if (error || a->gone_) co_return Lost(a);
    co_return head.keep_alive();
  }

  bool Lost(const std::shared_ptr<Answering>& a) {
    ++shared_->gone;
    a->Gone();
    return false;
  }

  Stream stream_;
  std::shared_ptr<Shared> shared_;
  std::string peer_;
  asio::steady_timer wake_;
  beast::flat_buffer buffer_;
  unsigned version_ = 11;
  bool keep_alive_ = true, head_only_ = false, idle_ = true, watching_ = false;
  std::weak_ptr<Answering> watched_;
};

}  // namespace headrace::http
