// Connection: one peer's requests, one after another, within the server's limits.
#pragma once

#include <algorithm>
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
#include <chrono>
#include <sstream>

#include "http/answering.h"
#include "http/request_head.h"
#include "http/shared.h"

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

template <typename Stream>
class Connection final : public Closable, public std::enable_shared_from_this<Connection<Stream>> {
 public:
  Connection(Stream stream, std::shared_ptr<Shared> shared, std::string peer)
      : stream_(std::move(stream)),
        shared_(std::move(shared)),
        peer_(std::move(peer)),
        arrived_(stream_.get_executor()),
        wake_(stream_.get_executor(), Clock::time_point::max()) {
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
      const Deadline deadline(&Lowest(), this->shared_from_this(), shared_->options.header_seconds);
      co_await stream_.async_handshake(asio::ssl::stream_base::server, redirect_error(use_awaitable, error));
      if (error) co_return Close();
    }
    for (;;) {
      auto answering = co_await ReadRequest();
      if (!answering) co_return Close();
      const Counted counted(shared_.get());
      watched_ = answering;
      ReadAhead(kIdleBytes);
      shared_->handler(answering);
      if (left_) answering->Gone();
      const bool keep = co_await WriteAnswer(answering);
      watched_.reset();
      answering->written_ = true;
      answering->on_gone_ = nullptr;
      if (!keep || shared_->draining) co_return Close();
    }
  }

 private:
  using Clock = asio::steady_timer::clock_type;
  using Parser = message::request_parser<message::string_body>;
  static constexpr size_t kIdleBytes = 4096, kBodyBytes = 64 << 10;  // of one read
  static constexpr size_t kMostAhead = 64 << 10;  // of later requests, while one is answered
  static constexpr size_t kPiece = 256 << 10;     // of one write: then others have a turn
  static constexpr size_t kJoined = 16 << 10;     // of a body that goes with its header
  static constexpr size_t kMostWaste = 8 << 20;

  class Counted {
   public:
    explicit Counted(Shared* shared) : shared_(shared) { shared_->BeginAnswer(); }
    ~Counted() { shared_->EndAnswer(); }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;

   private:
    Shared* shared_;
  };

  PlainStream& Lowest() { return beast::get_lowest_layer(stream_); }
  void Close() {
    error_code ignored;
    Lowest().socket().shutdown(asio::socket_base::shutdown_both, ignored);
    Lowest().close();
  }

  // The one place that reads: into buffer_, one read at a time. While an answer is made it goes on, so that a
  // peer's leave is seen (with TLS, its close_notify), also behind the beginning of a next request.
  void ReadAhead(size_t bytes) {
    if (reading_ || left_) return;
    reading_ = true;
    stream_.async_read_some(buffer_.prepare(bytes),
                            [self = this->shared_from_this()](error_code error, size_t got) {
                              self->reading_ = false;
                              self->buffer_.commit(got);
                              self->left_ = self->left_ || error;
                              self->arrived_.cancel();
                              const auto now = self->watched_.lock();
                              if (!now) return;
                              if (self->left_) return now->Gone();
                              if (self->buffer_.size() < kMostAhead) self->ReadAhead(kIdleBytes);
                            });
  }

  // Waits for bytes. False: the peer has left, or `until` is over.
  asio::awaitable<bool> More(Clock::time_point until, size_t bytes) {
    ReadAhead(bytes);
    while (reading_) {
      arrived_.expires_at(until);
      error_code woken;
      co_await arrived_.async_wait(redirect_error(use_awaitable, woken));
      if (reading_ && !woken) co_return false;
    }
    co_return !left_;
  }

  static Clock::time_point Until(double seconds) { return Clock::now() + Milliseconds(seconds); }

  // A fault of what came; status 0: there is nobody to tell.
  struct Refused {
    int status = 0;
    std::string message;
  };

  // Feeds the parser, to the header's end or the whole request's. True: that is read.
  asio::awaitable<bool> Feed(Parser* parser, bool whole, double seconds, BodyRoom* room, Refused* refused) {
    const Clock::time_point until = Until(seconds);
    parser->eager(whole);
    while (!(whole ? parser->is_done() : parser->is_header_done())) {
      error_code error = message::error::need_more;
      size_t used = 0;
      if (buffer_.size() > 0) {
        used = parser->put(buffer_.data(), error);
        buffer_.consume(used);
      }
      if (error && error != message::error::need_more) {
        *refused = Explain(error);
        co_return false;
      }
      if (whole && !room->GrowTo(static_cast<int64_t>(parser->get().body().size()))) {
        *refused = {503, "there are too many requests with large bodies; try again"};
        co_return false;
      }
      if (!error && used > 0) continue;
      if (co_await More(until, whole ? kBodyBytes : kIdleBytes)) continue;
      if (!left_) {
        ++shared_->too_slow;
        *refused = {408, "the request did not arrive in time"};
        co_return false;
      }
      co_return false;
    }
    co_return true;
  }

  Refused Explain(error_code error) {
    if (error == message::error::body_limit)
      return {413, "the body is larger than " + std::to_string(shared_->options.max_body) + " bytes"};
    if (error == message::error::header_limit)
      return {431, "the header is larger than " + std::to_string(shared_->options.max_header) + " bytes"};
    ++shared_->malformed;
    return {400, "this is not HTTP/1.1: " + error.message()};
  }

  // Empty: the connection ends.
  asio::awaitable<std::shared_ptr<Answering>> ReadRequest() {
    const HttpOptions& options = shared_->options;
    Parser parser;
    parser.header_limit(static_cast<uint32_t>(options.max_header));
    parser.body_limit(static_cast<uint64_t>(options.max_body));
    path_.clear();
    head_only_ = false;
    if (buffer_.size() == 0) {  // nobody has to say anything yet
      idle_ = true;
      if (shared_->draining || !co_await More(Until(options.idle_seconds), kIdleBytes)) co_return nullptr;
      idle_ = false;
    }
    Refused refused;
    if (!co_await Feed(&parser, false, options.header_seconds, nullptr, &refused))
      co_return co_await Refuse(refused);
    version_ = parser.get().version();
    keep_alive_ = parser.get().keep_alive();
    head_only_ = parser.get().method() == message::verb::head;
    Result<HttpRequest> head = ReadHead(parser.get().base());
    if (!head.ok()) {
      ++shared_->malformed;
      refused = {400, head.status().message()};
      co_return co_await Refuse(refused);
    }
    head->peer = peer_;
    path_ = head->path;
    if (options.on_header)
      if (auto answer = options.on_header(*head)) {
        if (options.finish_head) options.finish_head(*head, &*answer);
        co_return co_await Refuse(std::move(*answer));
      }
    if (beast::iequals(parser.get()[message::field::expect], "100-continue")) {
      const error_code error = co_await WriteAll("HTTP/1.1 100 Continue\r\n\r\n");
      if (error) co_return nullptr;
    }
    const auto room = std::make_shared<BodyRoom>(shared_);
    if (!co_await Feed(&parser, true, options.body_seconds, room.get(), &refused))
      co_return co_await Refuse(refused);
    head->body = std::move(parser.get().body());
    if (buffer_.size() == 0 && !reading_) buffer_.shrink_to_fit();
    auto answering = std::make_shared<Answering>(shared_->loop, std::move(*head), version_ >= 11,
                                                 options.max_body, options.finish_head);
    answering->held_ = room;
    co_return answering;
  }

  // Tells what is wrong with a request that cannot be read, where there is a point in it.
  asio::awaitable<std::shared_ptr<Answering>> Refuse(Refused refused) {
    if (refused.status == 0) co_return nullptr;
    HttpResponse response{refused.status, {}, shared_->ErrorBody(refused.status, refused.message, path_)};
    if (refused.status == 503) response.headers.emplace_back("Retry-After", "1");
    co_return co_await Refuse(std::move(response));
  }

  asio::awaitable<std::shared_ptr<Answering>> Refuse(HttpResponse response) {
    keep_alive_ = false;
    version_ = 11;
    co_await WriteWhole(response);
    // A peer that is still sending would get a reset instead of the answer: what it sends is taken a while.
    error_code ignored;
    Lowest().socket().shutdown(asio::socket_base::shutdown_send, ignored);
    const Clock::time_point until = Until(2);
    for (size_t taken = 0; taken < kMostWaste;) {
      taken += buffer_.size();
      buffer_.clear();
      if (!co_await More(until, kBodyBytes)) break;
    }
    co_return nullptr;
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

  // In pieces: each that the peer takes some of gives it its time anew, and others a turn.
  asio::awaitable<error_code> WriteAll(std::string_view bytes) {
    error_code error;
    while (!bytes.empty() && !error) {
      const Deadline deadline(&Lowest(), this->shared_from_this(), shared_->options.write_seconds);
      const size_t wrote = co_await stream_.async_write_some(
          asio::buffer(bytes.data(), std::min(bytes.size(), kPiece)), redirect_error(use_awaitable, error));
      if (error && deadline.passed()) ++shared_->too_slow;
      bytes.remove_prefix(wrote);
    }
    co_return error;
  }

  asio::awaitable<bool> WriteWhole(const HttpResponse& from) {
    message::response<message::empty_body> head = Head(from);
    if (from.status != 204) head.content_length(from.body.size());  // RFC 9110, 8.6
    std::ostringstream told;
    told << head.base();
    std::string text = told.str();
    const bool joined = !head_only_ && from.body.size() <= kJoined;
    if (joined) text += from.body;
    error_code error = co_await WriteAll(text);
    if (!error && !joined && !head_only_) error = co_await WriteAll(from.body);
    co_return !error && head.keep_alive();
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
      error = co_await WriteAll(bytes);
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
  asio::steady_timer arrived_;  // cancelled when a read has ended
  asio::steady_timer wake_;
  beast::flat_buffer buffer_;  // what came and is not parsed
  std::string path_;           // of the request that is read, for its refusal
  unsigned version_ = 11;
  bool keep_alive_ = true, head_only_ = false, idle_ = true;
  bool reading_ = false, left_ = false;  // a read is under way; the peer sends no more
  std::weak_ptr<Answering> watched_;     // what is being answered
};

}  // namespace headrace::http
