// FakeExchange: keeps what it is told. For tests.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "http/http_server.h"

namespace headrace::serve {

class FakeExchange final : public http::Exchange {
 public:
  const http::HttpRequest& request() const override { return request_; }
  Status DecodeBody() override { return Status::Ok(); }
  void Answer(http::HttpResponse response) override { answers.push_back(std::move(response)); }
  void Begin(http::HttpResponse head) override { answers.push_back(std::move(head)); }
  void Send(std::string) override {}
  void End(std::string) override { ++ends; }
  void OnGone(std::function<void()> call) override { gone = std::move(call); }
  void Post(std::function<void()> work) override { work(); }

  std::vector<http::HttpResponse> answers;
  int ends = 0;
  std::function<void()> gone;

 private:
  http::HttpRequest request_;
};

}  // namespace headrace::serve
