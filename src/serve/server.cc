#include "serve/server.h"

#include <algorithm>
#include <cstdio>
#include <thread>

#include "api/writer.h"
#include "base/clock.h"
#include "base/ids.h"
#include "serve/refusal.h"
#include "serve/routes.h"

namespace headrace::serve {
namespace {

constexpr double kTickSeconds = 1;  // between looks at the keys
constexpr int kWorkers = 2, kWaiters = 32;

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.") || host.starts_with("unix:");
}

// As OpenAI's clients send it, as Anthropic's do, and as Azure's; "" for none.
std::string_view GivenKey(const http::HttpRequest& request) {
  const std::string_view bearer = request.Header("authorization");
  if (bearer.size() > 7 && (bearer.starts_with("Bearer ") || bearer.starts_with("bearer ")))
    return bearer.substr(7);
  const std::string_view key = request.Header("x-api-key");
  return key.empty() ? request.Header("api-key") : key;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::Start(std::shared_ptr<table::Catalog> catalog, ServeOptions options) {
  std::unique_ptr<Server> server(new Server());
  Services& services = server->services_;
  services.build = model::BuildDescription();
  services.strict_fields = options.strict_fields;
  services.metrics = Metrics::Make();
  services.keys = std::make_unique<KeyRing>(catalog);
  HEADRACE_TRY(services.keys->Refresh());
  for (const std::string& host : options.http.hosts)
    if (services.keys->empty() && !options.open && !IsLoopback(host))
      return Status::Invalid("there are no keys, and strangers can reach " + host +
                             ": make one with `headrace key create NAME`, or serve anyone with --open");
  services.workers = std::make_unique<TaskPool>(kWorkers, "hr-serve");
  services.waiters = std::make_unique<TaskPool>(kWaiters, "hr-serve");
  HEADRACE_ASSIGN(services.models, Models::Start(catalog, options.models, options.model));
  HEADRACE_ASSIGN(services.recorder, Recorder::Start(catalog, options.record, options.commit_seconds));
  services.responses = std::make_unique<KeptResponses>(catalog, services.recorder.get());
  options.http.error_body = [](int status, const std::string& message, const std::string& path) {
    const api::Fault fault{status, "", "", message, 0};
    return path.starts_with("/v1/messages") ? api::AnthropicError(fault, Uuid::Random().ToString())
                                            : api::OpenAiError(fault);
  };
  HEADRACE_ASSIGN(server->cors_, Cors::Make(options.cors_origins));
  options.http.finish_head = [raw = server.get()](const auto& request, auto* head) {
    raw->cors_.Tell(request, head);
  };
  server->options_ = options;
  HEADRACE_ASSIGN(server->http_, http::HttpServer::Start(options.http, [raw = server.get()](auto exchange) {
                    raw->Handle(std::move(exchange));
                  }));
  services.http = server->http_.get();
  server->Tick();
  services.ready = true;
  return server;
}

Server::~Server() {
  services_.stopping = true;
  Drain(0, {});
  services_.workers.reset();  // bodies that were being read
  services_.waiters.reset();
  Drain(0, {});
  http_.reset();
  services_.models.reset();
}

std::string Server::url() const {
  const std::string scheme = options_.http.certificate.empty() ? "http://" : "https://";
  const std::vector<std::string>& hosts = options_.http.hosts;
  const auto reached = std::find_if(hosts.begin(), hosts.end(),
                                    [](const std::string& host) { return !host.starts_with("unix:"); });
  if (reached == hosts.end()) return hosts.front();
  const bool v6 = reached->find(':') != std::string::npos;
  return scheme + (v6 ? "[" + *reached + "]" : *reached) + ":" + std::to_string(http_->port());
}

// The clock; keys that were made, changed or revoked: their weights go to every model.
void Server::Tick() {
  if (services_.stopping) return;
  if (const std::string told = services_.clock.Look(NowMicros(), MonotonicSeconds()); !told.empty())
    std::fprintf(stderr, "headrace: %s; serving goes on\n", told.c_str());
  (void)services_.keys->Refresh();
  for (const auto& served : services_.models->all())
    if (served->engine)
      for (const KeyFacts& key : services_.keys->all())
        if (key.weight != 1) served->engine->SetWeight(key.id, key.weight);
  http_->After(kTickSeconds, [this] {
    if (!services_.stopping) services_.workers->Submit([this] { Tick(); });
  });
}

std::optional<KeyFacts> Server::Authenticate(const http::HttpRequest& request) const {
  const std::string_view key = GivenKey(request);
  if (!key.empty())
    if (auto found = services_.keys->Find(key)) return found;
  if (!options_.open && !services_.keys->empty()) return std::nullopt;
  KeyFacts anyone;
  anyone.scopes = {"all"};
  return anyone;
}

void Server::Handle(std::shared_ptr<http::Exchange> exchange) {
  Caller caller;
  caller.request_id = Uuid::Random().ToString();
  caller.arrived = MonotonicSeconds();
  caller.arrived_us = NowMicros();
  const http::HttpRequest& request = exchange->request();
  const auto refuse = [&](api::Fault fault) { Refuse(&services_, exchange.get(), caller, fault); };
  Match match = FindRoute(request.method, request.path);
  caller.route = match.name;
  if (request.method == "OPTIONS" && !match.allowed.empty())
    return exchange->Answer(cors_.Preflight(request, match.allowed));
  if (match.route == nullptr) {
    // Not told of as rows: strangers' spiders ask for much.
    const int status = match.allowed.empty() ? 404 : 405;
    services_.metrics->Refused(match.name, status);
    http::HttpResponse response = FaultAnswer(
        {status, "", "",
         match.allowed.empty() ? "there is nothing at " + request.path
                               : request.path + " takes " + match.allowed + ", not " + request.method,
         0},
        SpeaksAnthropic(request), caller, {}, {});
    if (!match.allowed.empty()) response.headers.emplace_back("Allow", match.allowed);
    return exchange->Answer(std::move(response));
  }
  const Route& route = *match.route;
  if (*route.scope != '\0') {
    auto key = Authenticate(request);
    if (!key)
      return refuse({401, "invalid_api_key", "",
                     GivenKey(request).empty()
                         ? "this server wants an API key: send it as `Authorization: Bearer …`"
                         : "this API key is unknown, revoked or expired",
                     0});
    caller.key = std::move(*key);
    if (!caller.key.May(route.scope))
      return refuse({403, "", "", "the key '" + caller.key.name + "' has no scope '" + route.scope + "'", 0});
  }
  Asked asked{exchange, std::move(caller), std::move(match.rest)};
  if (route.runs == Runs::kInline) return route.answer(&services_, asked);
  if (services_.stopping || services_.workers == nullptr)
    return Refuse(&services_, exchange.get(), asked.caller,
                  {503, "shutting_down", "", "the server is shutting down", 5});
  (route.runs == Runs::kWaiter ? services_.waiters : services_.workers)
      ->Submit([this, &route, asked = std::move(asked)] { route.answer(&services_, asked); });
}

size_t Server::Drain(double seconds, const StopToken& now) {
  services_.stopping = true;
  if (!http_) return 0;  // it never began
  http_->Drain();
  const double until = MonotonicSeconds() + seconds;
  while (services_.in_flight.size() > 0 && MonotonicSeconds() < until && !now.stopped())
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto left = services_.in_flight.all();
  for (const auto& request : left) request->end();
  const double last = MonotonicSeconds() + 5;
  while (services_.in_flight.size() > 0 && MonotonicSeconds() < last)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return left.size();
}

}  // namespace headrace::serve
