#include "serve/server.h"

#include <algorithm>
#include <cstdio>

#include "api/writer.h"
#include "base/clock.h"
#include "base/ids.h"
#include "serve/grpc.h"
#include "serve/refusal.h"
#include "serve/routes.h"
#include "serve/services.h"
#include "serve/strangers.h"

namespace headrace::serve {
namespace {

constexpr double kTickSeconds = 1;           // between looks at the keys
constexpr int64_t kMostUnwanted = 64 << 10;  // bytes of a body that nothing reads
constexpr double kEndSeconds = 5;            // for those that are told that the server ends

bool IsSocketFile(const std::string& host) { return host.starts_with("unix:"); }
bool IsLocal(const std::string& host) { return IsLoopback(host) || IsSocketFile(host); }

Match Find(const http::HttpRequest& head) {
  return head.http2 ? FindCall(head.method, head.path) : FindRoute(head.method, head.path);
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

Server::Server() : services_(std::make_unique<Services>()) {}

Result<std::unique_ptr<Server>> Server::Start(std::shared_ptr<table::Catalog> catalog, ServeOptions options) {
  std::unique_ptr<Server> server(new Server());
  Services& services = *server->services_;
  services.build = model::BuildDescription();
  services.strict_fields = options.strict_fields;
  services.max_body = options.http.max_body;
  if (!options.defaults.empty())
    if (const auto fault = api::ParseDefaults(options.defaults, &services.defaults))
      return Status::Invalid("--defaults: " + (fault->param.empty() ? "" : fault->param + " ") +
                             fault->message);
  services.metrics = Metrics::Make();
  services.keys = std::make_unique<KeyRing>(catalog);
  HEADRACE_TRY(services.keys->Refresh());
  for (const std::string& host : options.http.hosts)
    if (services.keys->empty() && !options.open && !IsLocal(host))
      return Status::Invalid("there are no keys, and strangers can reach " + host +
                             ": make one with `headrace key create NAME`, or serve anyone with --open");
  options.model.loader.prepare = [raw = server.get()](const Served& served) { raw->SetWeights(served); };
  HEADRACE_ASSIGN(services.models, Models::Start(catalog, options.models, options.model));
  HEADRACE_ASSIGN(services.recorder, Recorder::Start(catalog, options.record, options.commit_seconds));
  services.responses = std::make_unique<KeptResponses>(catalog, services.recorder.get());
  services.labelling = std::make_unique<Labelling>(catalog, services.recorder.get());
  options.http.error_body = [](int status, const std::string& message, const std::string& path) {
    const api::Fault fault{status, "", "", message, 0};
    return path.starts_with("/v1/messages") ? api::AnthropicError(fault, Uuid::Random().ToString())
                                            : api::OpenAiError(fault);
  };
  HEADRACE_ASSIGN(server->cors_, Cors::Make(options.cors_origins));
  options.http.on_header = [raw = server.get()](const auto& head) { return raw->Gate(head); };
  options.http.finish_head = [raw = server.get()](const auto& request, auto* head) {
    raw->cors_.Tell(request, head);
  };
  if (options.http.http2)
    options.http.http2->fault = [](int status, const std::string& message) {
      return CallFault({status, "", "", message, status == 503 ? 1.0 : 0}, {});
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
  services_->stopping = true;
  Drain(0, {});
  if (services_->models) services_->models->Stop();  // what was being loaded
  services_->workers.Close();                        // bodies that were being read
  Drain(0, {});
  http_.reset();
  services_->models.reset();
}

// "NAME" or "[ADDRESS]"; "" where all are socket files.
std::string Server::FirstHost() const {
  for (const std::string& host : options_.http.hosts)
    if (!IsSocketFile(host)) return host.find(':') != std::string::npos ? "[" + host + "]" : host;
  return "";
}

std::string Server::url() const {
  const std::string host = FirstHost();
  if (host.empty()) return options_.http.hosts.front();
  return (options_.http.certificate.empty() ? "http://" : "https://") + host + ":" +
         std::to_string(http_->port());
}

std::string Server::otlp_grpc() const {
  return http_->http2_port() == 0 ? "" : FirstHost() + ":" + std::to_string(http_->http2_port());
}

// The clock; keys that were made, changed or revoked: their weights go to every model.
void Server::Tick() {
  if (services_->stopping) return;
  if (const std::string told = services_->clock.Look(NowMicros(), MonotonicSeconds()); !told.empty())
    std::fprintf(stderr, "headrace: %s; serving goes on\n", told.c_str());
  (void)services_->keys->Refresh();
  if (const std::string trouble = services_->keys->trouble(); trouble != keys_told_) {
    std::fprintf(stderr, "headrace: %s\n",
                 trouble.empty() ? "the table of keys can be read again"
                                 : (trouble + "; those that were known stay").c_str());
    keys_told_ = trouble;
  }
  for (const auto& served : services_->models->loaded()) SetWeights(*served);
  http_->After(kTickSeconds, [this] {
    if (!services_->stopping) services_->workers.TrySubmit([this] { Tick(); });
  });
}

void Server::SetWeights(const Served& served) const {
  for (const KeyFacts& key : services_->keys->all()) {
    if (key.weight == 1) continue;
    if (served.engine) served.engine->SetWeight(key.id, key.weight);
    if (served.embedder) served.embedder->SetWeight(key.id, key.weight);
  }
}

std::optional<KeyFacts> Server::Authenticate(const http::HttpRequest& request) const {
  const std::string_view key = GivenKey(request);
  if (!key.empty())
    if (auto found = services_->keys->Find(key)) return found;
  if (!options_.open && !services_->keys->empty()) return std::nullopt;
  // Where there are no keys, whoever asks from this machine is the owner; strangers never are.
  KeyFacts anyone;
  if (!options_.open && services_->keys->empty()) anyone.scopes = {"all"};
  return anyone;
}

http::HttpResponse Server::NoRoute(const http::HttpRequest& request, const Match& match,
                                   const Caller& caller) {
  // Not told of as rows: strangers' spiders ask for much.
  const int status = match.allowed.empty() ? 404 : 405;
  services_->metrics->Answered(match.name, status);
  const std::string why =
      !match.allowed.empty() ? request.path + " takes " + match.allowed + ", not " + request.method
      : request.http2        ? "spans are taken here (TraceService), and nothing at " + request.path
                             : "there is nothing at " + request.path;
  http::HttpResponse response =
      FaultAnswer({status, "", "", why, 0}, request, caller.request_id, AnswerHeaders(caller, {}, {}));
  if (!match.allowed.empty()) response.headers.emplace_back("Allow", match.allowed);
  return response;
}

// Who asks, and whether they may at all. (Whether the key has the route's scope, its row will say.)
std::optional<api::Fault> Server::Admit(const http::HttpRequest& head, const Match& match,
                                        KeyFacts* key) const {
  if (*match.route->scope == '\0') return std::nullopt;
  auto found = Authenticate(head);
  if (!found)
    return api::Fault{401, "invalid_api_key", "",
                      GivenKey(head).empty()
                          ? "this server wants an API key: send it as `Authorization: Bearer …`"
                          : "this API key is unknown, revoked or expired",
                      0};
  *key = std::move(*found);
  if (!key->id.empty() || head.peer == "unix") return std::nullopt;  // no page reaches a socket file
  const auto& hosts = options_.http.hosts;
  return StrangerFault(head, {std::all_of(hosts.begin(), hosts.end(), IsLocal), options_.hosts}, cors_);
}

// Before a body is read: who may not ask does not get to send one.
std::optional<http::HttpResponse> Server::Gate(const http::HttpRequest& head) {
  if (head.http2)
    if (auto answer = NoCall(head)) return answer;
  const Match match = Find(head);
  Caller caller;
  caller.request_id = Uuid::Random().ToString();
  caller.route = match.name;
  const bool chunks = head.http2 || !head.Header("transfer-encoding").empty();
  const bool large =
      chunks || std::strtoll(std::string(head.Header("content-length")).c_str(), nullptr, 10) > kMostUnwanted;
  if (match.route == nullptr) {
    if (head.method == "OPTIONS" || !large) return std::nullopt;
    return NoRoute(head, match, caller);
  }
  std::optional<api::Fault> fault = Admit(head, match, &caller.key);
  if (!fault && match.route->runs == Runs::kInline && large)
    fault = api::Fault{413, "", "", head.path + " takes no body", 0};
  if (!fault) return std::nullopt;
  services_->metrics->Answered(match.name, fault->status);
  return FaultAnswer(*fault, head, caller.request_id, AnswerHeaders(caller, {}, {}));
}

// What a key without the route's scope is told; nothing where it has it.
std::optional<api::Fault> NoScope(const Route& route, const KeyFacts& key) {
  if (*route.scope == '\0' || key.May(route.scope)) return std::nullopt;
  return api::Fault{403, "", "",
                    (key.id.empty() ? "without a key there is" : "the key '" + key.name + "' has") +
                        std::string(" no scope '") + route.scope + "'",
                    0};
}

void Server::Handle(std::shared_ptr<http::Exchange> exchange) {
  Caller caller;
  caller.request_id = Uuid::Random().ToString();
  caller.arrived = MonotonicSeconds();
  caller.arrived_us = NowMicros();
  const http::HttpRequest& request = exchange->request();
  Match match = Find(request);
  caller.route = match.name;
  if (request.method == "OPTIONS" && !match.allowed.empty() && !request.http2)
    return exchange->Answer(cors_.Preflight(request, match.allowed));
  if (match.route == nullptr) return exchange->Answer(NoRoute(request, match, caller));
  const Route& route = *match.route;
  auto fault = Admit(request, match, &caller.key);
  if (!fault) fault = NoScope(route, caller.key);
  const Asked asked{std::make_shared<Ticket>(services_.get(), std::move(exchange), std::move(caller)),
                    std::move(match.rest)};
  if (fault) return (void)asked.ticket->Refuse(*fault);
  if (route.runs == Runs::kInline) return route.answer(asked);
  Run(route, asked);
}

// On a worker.
void Server::Run(const Route& route, Asked asked) {
  const std::shared_ptr<Ticket> ticket = asked.ticket;
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  if (ticket->request().http2) ticket->exchange()->OnGone([gone] { *gone = true; });
  const auto work = [&route, asked = std::move(asked), gone] {
    if (*gone) return (void)asked.ticket->Tell({});  // its sender has taken it back
    if (const Status decoded = asked.ticket->exchange()->DecodeBody(); !decoded.ok()) {
      const int status = decoded.Is(Code::kUnsupported) ? 415 : decoded.Is(Code::kLimit) ? 413 : 400;
      return (void)asked.ticket->Refuse({status, "", "", decoded.ToString(), 0});
    }
    route.answer(asked);
  };
  if (services_->stopping || !services_->workers.TrySubmit(work)) ticket->Refuse(ShuttingDown());
}

// Until no request runs and no answer's last byte is still to be written. One that has begun to arrive may
// come in between: hence the loop.
void Server::AwaitEnds(double seconds, const StopToken& now) const {
  const double until = MonotonicSeconds() + seconds;
  const InFlightList& running = services_->in_flight;
  while (http_->WaitUntilAnswered(until - MonotonicSeconds(), now) &&
         running.WaitUntilEmpty(until - MonotonicSeconds(), now) && http_->stats().answering > 0) {
  }
}

size_t Server::Drain(double seconds, const StopToken& now) {
  services_->stopping = true;
  if (!http_) return 0;  // it never began
  http_->Drain();
  AwaitEnds(seconds, now);
  const auto left = services_->in_flight.all();
  for (const auto& request : left) request->stop();
  AwaitEnds(kEndSeconds, {});
  return left.size();
}

}  // namespace headrace::serve
