// Http2Exchange: the exchange that a session of HTTP/2 gives to the handler. Its state belongs to the
// network's thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "http/http2_session.h"
#include "http/request_head.h"

namespace headrace::http {

class Http2Exchange final : public Exchange, public std::enable_shared_from_this<Http2Exchange> {
 public:
  Http2Exchange(const std::shared_ptr<Http2Session>& session, int32_t id, HttpRequest request,
                std::shared_ptr<void> room)
      : loop_(session->shared_->loop),
        session_(session),
        in_hands_(session->in_hands_),
        id_(id),
        most_(session->shared_->options.max_body),
        request_(std::move(request)),
        room_(std::move(room)) {
    ++*in_hands_;
  }
  ~Http2Exchange() override { --*in_hands_; }
  Http2Exchange(const Http2Exchange&) = delete;
  Http2Exchange& operator=(const Http2Exchange&) = delete;

  const HttpRequest& request() const override { return request_; }
  Status DecodeBody() override { return Inflate(&request_, most_); }
  void Answer(HttpResponse response) override {
    Later([response = std::move(response)](Http2Exchange& self) mutable { self.Tell(std::move(response)); });
  }
  void Begin(HttpResponse head) override {
    Later([head = std::move(head)](Http2Exchange& self) mutable {
      if (!self.begun_) self.gathered_ = std::move(head);
      self.begun_ = true;
    });
  }
  void Send(std::string piece) override {
    Later([piece = std::move(piece)](Http2Exchange& self) { self.gathered_.body += piece; });
  }
  void End(std::string last) override {
    Later([last = std::move(last)](Http2Exchange& self) {
      if (!self.begun_) return;
      self.gathered_.body += last;
      self.Tell(std::move(self.gathered_));
    });
  }
  void OnGone(std::function<void()> call) override {
    Later([call = std::move(call)](Http2Exchange& self) mutable {
      if (self.gone_) return call();
      self.on_gone_ = std::move(call);
    });
  }
  void Post(std::function<void()> work) override { loop_->Post(std::move(work)); }

  // The session's side: it is over for the peer. `answered`: by its answer.
  void Over(bool answered) {
    gone_ = !answered;
    const auto call = std::move(on_gone_);
    on_gone_ = nullptr;
    if (gone_ && call) call();
  }

 private:
  template <typename Fn>
  void Later(Fn fn) {
    loop_->Run([self = shared_from_this(), fn = std::move(fn)]() mutable { fn(*self); });
  }
  void Tell(HttpResponse response) {
    if (const auto session = session_.lock()) session->Answer(id_, std::move(response));
  }

  const std::shared_ptr<Loop> loop_;
  const std::weak_ptr<Http2Session> session_;
  const std::shared_ptr<std::atomic<int>> in_hands_;
  const int32_t id_;
  const int64_t most_;
  HttpRequest request_;
  const std::shared_ptr<void> room_;  // what its body takes of the room for all
  HttpResponse gathered_;
  bool begun_ = false, gone_ = false;
  std::function<void()> on_gone_;
};

}  // namespace headrace::http
