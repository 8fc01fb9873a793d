#include "serve/ticket.h"

#include "base/clock.h"
#include "serve/refusal.h"
#include "serve/rows.h"

namespace headrace::serve {

using nlohmann::json;

Ticket::Ticket(Services* services, std::shared_ptr<http::Exchange> exchange, Caller caller)
    : services_(*services), exchange_(std::move(exchange)), caller_(std::move(caller)) {}

Ticket::~Ticket() {
  if (Refuse({500, "", "", "the server let go of this request", 0})) exchange_->End("");  // a stream's too
}

std::vector<std::pair<std::string, std::string>> Ticket::Headers() const {
  return AnswerHeaders(caller_, allowance_, ignored_);
}

std::optional<api::Fault> Ticket::Admit(int64_t tokens) {
  allowance_ = services_.meter.Begin(caller_.key, tokens, caller_.arrived);
  if (!allowance_.admitted)
    return api::Fault{429, "rate_limit_exceeded", "", allowance_.why, allowance_.retry_after};
  reserved_ = tokens;
  return std::nullopt;
}

void Ticket::Start(const std::string& model, const std::string& served, const json& row) {
  metrics_ = services_.metrics->Request(served, caller_.route, caller_.key.group);
  if (!services_.recorder->on()) return;
  json start = RequestRow(services_, request(), caller_, model);
  start.update(row);
  services_.recorder->Write(trace::Kind::kStart, start);
}

void Ticket::Enter(const std::string& served, int64_t prompt_tokens, std::function<void()> stop) {
  in_flight_ = std::make_shared<InFlight>();
  in_flight_->id = caller_.request_id;
  in_flight_->endpoint = caller_.route;
  in_flight_->model = served;
  in_flight_->key = caller_.key.name;
  in_flight_->arrived = caller_.arrived;
  in_flight_->prompt_tokens = prompt_tokens;
  in_flight_->stop = std::move(stop);
  services_.in_flight.Add(in_flight_);
}

void Ticket::AwaitModel() { in_flight_->state = InFlight::State::kLoading; }

void Ticket::Wait() { in_flight_->state = InFlight::State::kWaiting; }

void Ticket::Tokens(int64_t count, double now, double before) {
  in_flight_->answer_tokens += count;
  in_flight_->state = InFlight::State::kAnswering;
  if (before > 0) return metrics_->NextToken((now - before) / static_cast<double>(count));
  metrics_->FirstToken(now - caller_.arrived);
  double none = 0;
  first_token_.compare_exchange_strong(none, now);
}

bool Ticket::Answer(std::string body, const Outcome& outcome) {
  if (!TakeEnd()) return false;
  Settle(outcome);
  exchange_->Answer({outcome.status, Headers(), std::move(body)});
  return true;
}

bool Ticket::Refuse(const api::Fault& fault, Outcome outcome) {
  if (!TakeEnd()) return false;
  outcome.status = fault.status;
  outcome.error = (fault.param.empty() ? "" : fault.param + " ") + fault.message;
  Settle(outcome);
  exchange_->Answer(FaultAnswer(fault, request(), caller_.request_id, Headers()));
  return true;
}

bool Ticket::Tell(http::HttpResponse response) {
  if (!TakeEnd()) return false;
  exchange_->Answer(std::move(response));
  return true;
}

bool Ticket::Respond(http::HttpResponse response, int counted) {
  if (!TakeEnd()) return false;
  services_.metrics->Answered(caller_.route, counted != 0 ? counted : response.status);
  for (auto& header : Headers()) response.headers.push_back(std::move(header));
  exchange_->Answer(std::move(response));
  return true;
}

bool Ticket::End(const Outcome& outcome) {
  if (!TakeEnd()) return false;
  Settle(outcome);
  return true;
}

void Ticket::Settle(const Outcome& outcome) {
  WriteEnd(outcome);
  const engine::Usage& usage = outcome.usage;
  if (allowance_.admitted)
    services_.meter.End(caller_.key.id, reserved_, int64_t{usage.prompt_tokens} + usage.answer_tokens);
  if (in_flight_) services_.in_flight.Remove(in_flight_->id);
  if (metrics_) {
    metrics_->End(outcome.status, usage);
  } else {
    services_.metrics->Answered(caller_.route, outcome.status);
  }
}

// Those without a key are not recorded: strangers' spiders ask for much.
void Ticket::WriteEnd(const Outcome& outcome) {
  const bool refused = outcome.status != 200;
  if (!services_.recorder->on() || outcome.status == 401 || (!metrics_ && !refused)) return;
  json row = EndRow(caller_, outcome);
  row.update(metrics_ ? UsageRow(caller_, outcome, first_token_)
                      : RequestRow(services_, request(), caller_, ""));
  row.update(outcome.row);
  services_.recorder->Write(trace::Kind::kEnd, row);
}

}  // namespace headrace::serve
