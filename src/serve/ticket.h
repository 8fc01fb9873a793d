// ticket: one request from its arrival to its end, for every endpoint alike. It owns what the request holds
// of its key's limits, its entry among those in flight, its figures in the metrics, and its rows in `traces`.
//
//   if (auto fault = ticket->Admit(tokens)) return ticket->Refuse(*fault);
//   ticket->Start("gemma:adapter", "gemma", {{"input", …}});
//   ticket->Enter("gemma", prompt_tokens, stop);
//   ticket->Answer(body, {.usage = …});
//
// It ends once: by the first of Answer, Refuse, Tell, Respond and End; the others do nothing then. One that
// is let go without an end ends as an error of the server. What was started has an end row, and so has every
// refusal; an answer that needed no model (a count of tokens, a score) is counted alone.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

#include "api/fault.h"
#include "engine/request.h"
#include "http/http_server.h"
#include "serve/services.h"

namespace headrace::serve {

// How a request ended.
struct Outcome {
  int status = 200;
  std::string error = {};
  std::string finish = "stop";  // of status 200; of others it follows from the status
  engine::Usage usage = {};
  nlohmann::json row = nlohmann::json::object();  // columns beyond those that every end row has
};

class Ticket {
 public:
  Ticket(Services* services, std::shared_ptr<http::Exchange> exchange, Caller caller);
  ~Ticket();
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  Services& services() const { return services_; }
  const Caller& caller() const { return caller_; }
  const http::HttpRequest& request() const { return exchange_->request(); }
  const std::shared_ptr<http::Exchange>& exchange() const { return exchange_; }
  // Of every answer to it.
  std::vector<std::pair<std::string, std::string>> Headers() const;
  // Fields of its body that nothing reads: a header names them.
  void Ignore(std::vector<std::string> fields) { ignored_ = std::move(fields); }

  // Asks the meter for so many tokens, a guess; what it really came to is settled at the end.
  std::optional<api::Fault> Admit(int64_t tokens);
  // Writes the start row: what every request has, and `row`. `model`: as it was asked for; `served`: the name
  // of what answers, for metrics and lists.
  void Start(const std::string& model, const std::string& served, const nlohmann::json& row);
  // It is in flight from here on. `stop`: as InFlight has it; it must not keep this ticket alive. Called
  // again where it waited for its model before.
  void Enter(const std::string& served, int64_t prompt_tokens, std::function<void()> stop);
  // It waits for its model to be loaded.
  void AwaitModel();
  // It waits for the engine, and no longer for what prepares it.
  void Wait();
  // So many tokens of one of its answers came now; `before`: when those before them did (monotonic seconds),
  // 0 where these are the first.
  void Tokens(int64_t count, double now, double before);

  // The ends, from any thread. False, and nothing else, where it has ended already.
  bool Answer(std::string body, const Outcome& outcome = {});
  bool Refuse(const api::Fault& fault, Outcome outcome = {});
  // About the server itself: neither counted nor recorded.
  bool Tell(http::HttpResponse response);
  // In another protocol than OpenAI's and Anthropic's, whatever its status: counted, and never a row.
  // `counted`: as this status of HTTP, where gRPC says it in the trailers.
  bool Respond(http::HttpResponse response, int counted = 0);
  // The account alone, before the last byte: of streams, which say their end themselves.
  bool End(const Outcome& outcome);
  bool ended() const { return ended_; }

 private:
  bool TakeEnd() { return !ended_.exchange(true); }
  void Settle(const Outcome& outcome);
  void WriteEnd(const Outcome& outcome);

  Services& services_;
  const std::shared_ptr<http::Exchange> exchange_;
  const Caller caller_;
  Allowance allowance_;  // the meter's answer
  int64_t reserved_ = 0;
  std::vector<std::string> ignored_;
  std::shared_ptr<RequestMetrics> metrics_;  // null: not started
  std::shared_ptr<InFlight> in_flight_;      // null: not entered
  std::atomic<double> first_token_{0};       // monotonic seconds; 0: none yet
  std::atomic<bool> ended_{false};
};

}  // namespace headrace::serve
