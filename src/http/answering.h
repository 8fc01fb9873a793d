// Answering: the exchange that a connection gives to the handler.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/string.hpp>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "http/http_server.h"
#include "http/loop.h"
#include "http/request_head.h"

namespace headrace::http {

// An answer on its way. Its state belongs to the network's thread.
class Answering final : public Exchange, public std::enable_shared_from_this<Answering> {
 public:
  // `chunks`: pieces go in HTTP's chunks (HTTP/1.1), and not up to the connection's end.
  Answering(std::shared_ptr<Loop> loop, HttpRequest request, bool chunks, int64_t max_body,
            std::function<void(const HttpRequest&, HttpResponse*)> finish_head)
      : loop_(std::move(loop)),
        request_(std::move(request)),
        chunks_(chunks),
        max_body_(max_body),
        finish_head_(std::move(finish_head)) {}
  const HttpRequest& request() const override { return request_; }
  Status DecodeBody() override { return Inflate(&request_, max_body_); }

  void Answer(HttpResponse response) override {
    Later([response = std::move(response)](Answering& self) mutable {
      if (self.head_ || self.ended_) return;
      self.SetHead(std::move(response));
      self.whole_ = self.ended_ = true;
      self.Wake();
    });
  }
  void Begin(HttpResponse head) override {
    Later([head = std::move(head)](Answering& self) mutable {
      if (self.head_ || self.ended_) return;
      self.SetHead(std::move(head));
      self.Wake();
    });
  }
  void Send(std::string piece) override {
    Later([piece = std::move(piece)](Answering& self) { self.Put(piece, false); });
  }
  void End(std::string last) override {
    Later([last = std::move(last)](Answering& self) { self.Put(last, true); });
  }
  void OnGone(std::function<void()> call) override {
    Later([call = std::move(call)](Answering& self) mutable {
      if (self.gone_) return call();
      self.on_gone_ = std::move(call);
    });
  }
  void Post(std::function<void()> work) override { loop_->Post(std::move(work)); }

  // The connection's side.
  void Gone() {
    if (gone_ || (ended_ && written_)) return;
    gone_ = true;
    out_.clear();
    Wake();
    if (const auto call = std::move(on_gone_)) call();
  }

 private:
  template <typename Stream>
  friend class Connection;

  template <typename Fn>
  void Later(Fn fn) {
    loop_->Run([self = shared_from_this(), fn = std::move(fn)]() mutable { fn(*self); });
  }
  void SetHead(HttpResponse head) {
    head_ = std::make_unique<HttpResponse>(std::move(head));
    if (finish_head_) finish_head_(request_, head_.get());
  }
  void Wake() {
    if (wake_ != nullptr) wake_->cancel();
  }

  // A piece costs one write and no more where the peer takes what it is sent (a token a step for each of many
  // streams): no timer, no turn of the loop. What the peer does not take is the connection's to write.
  void Put(std::string_view piece, bool last) {
    if (ended_ || gone_) return;
    if (!piece.empty()) {
      if (chunks_) {
        char size[20];
        out_.append(size, static_cast<size_t>(std::snprintf(size, sizeof size, "%zx\r\n", piece.size())));
      }
      out_.append(piece);
      if (chunks_) out_.append("\r\n");
    }
    if (last && chunks_ && head_) out_.append("0\r\n\r\n");
    ended_ = last;
    if (write_now_ && !out_.empty()) out_.erase(0, write_now_(out_));
    if (last || !out_.empty()) Wake();
  }

  std::shared_ptr<Loop> loop_;
  HttpRequest request_;
  const bool chunks_;
  const int64_t max_body_;
  const std::function<void(const HttpRequest&, HttpResponse*)> finish_head_;
  std::shared_ptr<void> held_;          // what its body takes of the room for all
  asio::steady_timer* wake_ = nullptr;  // the connection's, while it answers this
  std::unique_ptr<HttpResponse> head_;
  std::string out_;                                    // framed, waiting to be written
  std::function<size_t(std::string_view)> write_now_;  // set while the connection writes nothing itself
  bool whole_ = false, ended_ = false, written_ = false, gone_ = false;
  std::function<void()> on_gone_;
};

}  // namespace headrace::http
