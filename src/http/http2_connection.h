// Http2Connection: one peer's connection of HTTP/2, with TLS or without: a session's bytes to and from a
// socket, within the server's limits of time.
#pragma once

#include <array>

#include "base/clock.h"
#include "http/connection.h"
#include "http/http2_session.h"

namespace headrace::http {

template <typename Stream>
class Http2Connection final : public Closable, public std::enable_shared_from_this<Http2Connection<Stream>> {
 public:
  Http2Connection(Stream stream, std::shared_ptr<Shared> shared, std::string peer)
      : stream_(std::move(stream)),
        shared_(std::move(shared)),
        peer_(std::move(peer)),
        timer_(stream_.get_executor()),
        until_(MonotonicSeconds() + shared_->options.header_seconds) {
    ++shared_->connections;
  }
  ~Http2Connection() override { --shared_->connections; }

  void CloseIfIdle() override {
    asio::post(stream_.get_executor(), [self = this->shared_from_this()] {
      self->session_->GoAway();
      self->Write();
    });
  }

  void Run() {
    session_ = Http2Session::Make(shared_, peer_, [weak = this->weak_from_this()] {
      if (const auto self = weak.lock()) self->Write();
    });
    Tick();
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [self = this->shared_from_this()](error_code error) {
                                if (error) return self->Close();
                                self->Open();
                              });
    } else {
      Open();
    }
  }

 private:
  static constexpr size_t kRead = 16 << 10;
  static constexpr double kLinger = 2;  // seconds in which a peer that is told the end may still send

  PlainStream& Lowest() { return beast::get_lowest_layer(stream_); }

  void Open() {
    open_ = true;
    Write();
    Read();
  }

  void Close() {
    if (closed_) return;
    closed_ = true;
    timer_.cancel();
    session_->Gone();
    error_code ignored;
    Lowest().socket().shutdown(asio::socket_base::shutdown_both, ignored);
    Lowest().close();
  }

  // Nothing is read while something is to be written: a peer that does not take its answers asks no more.
  void Read() {
    if (reading_ || writing_ || closed_) return;
    reading_ = true;
    stream_.async_read_some(asio::buffer(in_),
                            [self = this->shared_from_this()](error_code error, size_t got) {
                              self->reading_ = false;
                              if (error) return self->Close();
                              if (!self->ending_) self->session_->Receive({self->in_.data(), got});
                              self->Write();
                              self->Read();
                            });
  }

  void Write() {
    if (writing_ || closed_ || !open_ || ending_) return;
    out_ = session_->Take();
    written_ = 0;
    if (!out_.empty()) return WriteSome();
    if (!session_->over()) return;
    // What the peer still sends is taken a while: a reset could overtake what it was told.
    ending_ = true;
    until_ = MonotonicSeconds() + kLinger;
    error_code ignored;
    Lowest().socket().shutdown(asio::socket_base::shutdown_send, ignored);
  }

  void WriteSome() {
    writing_ = true;
    until_ = MonotonicSeconds() + shared_->options.write_seconds;
    stream_.async_write_some(asio::buffer(out_.data() + written_, out_.size() - written_),
                             [self = this->shared_from_this()](error_code error, size_t wrote) {
                               if (error) return self->Close();
                               self->written_ += wrote;
                               if (self->written_ < self->out_.size()) return self->WriteSome();
                               self->writing_ = false;
                               self->Write();
                               self->Read();
                             });
  }

  void Tick() {
    const HttpOptions& o = shared_->options;
    const double shortest = std::min({o.header_seconds, o.idle_seconds, o.body_seconds, o.write_seconds});
    timer_.expires_after(Milliseconds(std::clamp(shortest / 4, 0.02, 1.0)));
    timer_.async_wait([self = this->shared_from_this()](error_code error) {
      if (error || self->closed_) return;
      if ((!self->open_ || self->writing_ || self->ending_) && MonotonicSeconds() > self->until_) {
        if (!self->ending_) ++self->shared_->too_slow;
        return self->Close();
      }
      self->session_->Tick(self->writing_);
      self->Write();
      if (!self->closed_) self->Tick();
    });
  }

  Stream stream_;
  const std::shared_ptr<Shared> shared_;
  const std::string peer_;
  asio::steady_timer timer_;
  std::shared_ptr<Http2Session> session_;
  std::array<char, kRead> in_;
  std::string out_;
  size_t written_ = 0;
  double until_;  // monotonic seconds: of the handshake, a write, or the end
  bool open_ = false, reading_ = false, writing_ = false, ending_ = false, closed_ = false;
};

}  // namespace headrace::http
