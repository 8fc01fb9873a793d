#include "serve/server.h"

#include <algorithm>
#include <cstdio>
#include <thread>

#include "api/writer.h"
#include "base/clock.h"
#include "base/ids.h"
#include "serve/endpoints.h"
#include "serve/generation.h"
#include "serve/refusal.h"

namespace headrace::serve {
namespace {

constexpr double kTickSeconds = 1;  // between looks at the keys
constexpr int kWorkers = 2, kWaiters = 32;

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

// What a path takes, and the scope that a key needs for it: "" for none.
struct Route {
  const char* method;
  const char* path;
  const char* scope;
};
constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", "inference"},
    {"POST", "/v1/completions", "inference"},
    {"POST", "/v1/responses", "inference"},
    {"POST", "/v1/messages", "inference"},
    {"POST", "/v1/messages/count_tokens", "inference"},
    {"POST", "/v1/embeddings", "inference"},
    {"POST", "/v1/rerank", "inference"},
    {"POST", "/rerank", "inference"},
    {"POST", "/tokenize", "inference"},
    {"POST", "/detokenize", "inference"},
    {"GET", "/tokenizer_info", "inference"},
    {"GET", "/v1/models", "inference"},
    {"POST", "/v1/scores", "scores"},
    {"GET", "/metrics", "admin"},
    {"GET", "/load", "admin"},
    {"GET", "/health", ""},
    {"GET", "/ready", ""},
    {"GET", "/openapi.json", ""},
    {"GET", "/", ""},
};

const Route* FindRoute(const std::string& path) {
  for (const Route& route : kRoutes)
    if (path == route.path) return &route;
  static constexpr Route kModel = {"GET", "/v1/models/", "inference"};
  return path.starts_with(kModel.path) && path.size() > 11 ? &kModel : nullptr;
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
  if (services.keys->empty() && !options.open && !IsLoopback(options.http.host))
    return Status::Invalid("there are no keys, and strangers can reach " + options.http.host +
                           ": make one with `headrace key create NAME`, or serve anyone with --open");
  services.workers = std::make_unique<TaskPool>(kWorkers, "hr-serve");
  services.waiters = std::make_unique<TaskPool>(kWaiters, "hr-serve");
  HEADRACE_ASSIGN(services.models, Models::Start(catalog, options.models, options.model));
  HEADRACE_ASSIGN(services.recorder, Recorder::Start(catalog, options.record, options.commit_seconds));
  options.http.error_body = [](int status, const std::string& message) {
    return api::OpenAiError({status, "", "", message, 0});
  };
  server->options_ = options;
  HEADRACE_ASSIGN(server->http_, http::HttpServer::Start(options.http, [raw = server.get()](auto exchange) {
                    raw->Handle(std::move(exchange));
                  }));
  services.http = server->http_.get();
  server->Tick();
  server->ready_ = true;
  return server;
}

Server::~Server() {
  stopping_ = true;
  Drain(0, {});
  services_.workers.reset();  // bodies that were being read
  services_.waiters.reset();
  Drain(0, {});
  http_.reset();
  services_.models.reset();
}

std::string Server::url() const {
  const std::string scheme = options_.http.certificate.empty() ? "http://" : "https://";
  const bool v6 = options_.http.host.find(':') != std::string::npos;
  return scheme + (v6 ? "[" + options_.http.host + "]" : options_.http.host) + ":" +
         std::to_string(http_->port());
}

// The clock; keys that were made, changed or revoked: their weights go to every model.
void Server::Tick() {
  if (stopping_) return;
  if (const std::string told = services_.clock.Look(NowMicros(), MonotonicSeconds()); !told.empty())
    std::fprintf(stderr, "headrace: %s; serving goes on\n", told.c_str());
  (void)services_.keys->Refresh();
  for (const auto& served : services_.models->all())
    if (served->engine)
      for (const KeyFacts& key : services_.keys->all())
        if (key.weight != 1) served->engine->SetWeight(key.id, key.weight);
  http_->After(kTickSeconds, [this] {
    if (!stopping_) services_.workers->Submit([this] { Tick(); });
  });
}

std::optional<KeyFacts> Server::Authenticate(const http::HttpRequest& request) const {
  std::string_view key = request.Header("x-api-key");
  const std::string_view bearer = request.Header("authorization");
  if (bearer.size() > 7 && (bearer.starts_with("Bearer ") || bearer.starts_with("bearer ")))
    key = bearer.substr(7);
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
  const auto say = [&](std::string body, std::string type = "application/json") {
    exchange->Answer({200, {{"x-request-id", caller.request_id}}, std::move(body), std::move(type)});
  };
  const Route* route = FindRoute(request.path);
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (route == nullptr ||
      (reads ? std::string_view("GET") : std::string_view(request.method)) != route->method) {
    // Unknown paths are not told of to strangers' spiders as rows.
    const int status = route == nullptr ? 404 : 405;
    services_.metrics->Refused(route == nullptr ? "other" : request.path, status);
    http::HttpResponse response{
        status,
        {{"x-request-id", caller.request_id}},
        api::OpenAiError({status, "", "",
                          route == nullptr
                              ? "there is nothing at " + request.path
                              : request.path + " takes " + route->method + ", not " + request.method,
                          0})};
    if (route != nullptr) response.headers.emplace_back("Allow", route->method);
    return exchange->Answer(std::move(response));
  }
  const std::string_view path = request.path;
  if (path == "/health") return say(Health(services_));
  if (path == "/ready") {
    const bool ready = ready_ && !stopping_;
    return exchange->Answer(
        {ready ? 200 : 503, {}, ready ? R"({"status":"ready"})" : R"({"status":"stopping"})"});
  }
  if (path == "/openapi.json") return say(OpenApiDocument());
  if (path == "/")
    return say("headrace serves " + services_.models->names() +
                   "\nAPIs: /v1/chat/completions /v1/completions /v1/responses /v1/messages /v1/embeddings "
                   "/v1/rerank "
                   "/v1/models /v1/scores\nDescription: /openapi.json\n",
               "text/plain; charset=utf-8");
  auto key = Authenticate(request);
  if (!key)
    return refuse({401, "invalid_api_key", "",
                   request.Header("authorization").empty() && request.Header("x-api-key").empty()
                       ? "this server wants an API key: send it as `Authorization: Bearer …`"
                       : "this API key is unknown, revoked or expired",
                   0});
  caller.key = std::move(*key);
  if (!caller.key.May(route->scope))
    return refuse({403, "", "", "the key '" + caller.key.name + "' has no scope '" + route->scope + "'", 0});
  if (path == "/metrics") return say(MetricsText(&services_), "text/plain; version=0.0.4; charset=utf-8");
  if (path == "/load") return say(Load(services_));
  if (path == "/v1/models") return say(ModelList(services_));
  if (path == "/tokenizer_info") return say(TokenizerInfo(services_));
  if (path.starts_with("/v1/models/")) {
    const std::string name(path.substr(11));
    std::string entry = ModelEntry(services_, name);
    if (entry.empty()) return refuse(NoSuchModel(services_, name));
    return say(std::move(entry));
  }
  if (stopping_ || services_.workers == nullptr)
    return refuse({503, "shutting_down", "", "the server is shutting down", 5});
  const bool waits = path == "/v1/embeddings" || path == "/v1/rerank" || path == "/rerank";
  (waits ? services_.waiters : services_.workers)->Submit([this, exchange, caller] {
    Work(exchange, caller);
  });
}

void Server::Work(const std::shared_ptr<http::Exchange>& exchange, Caller caller) {
  const std::string_view path = exchange->request().path;
  using api::Dialect;
  if (path == "/v1/chat/completions")
    return Generate(&services_, exchange, Dialect::kChat, std::move(caller));
  if (path == "/v1/completions")
    return Generate(&services_, exchange, Dialect::kCompletions, std::move(caller));
  if (path == "/v1/responses") return Generate(&services_, exchange, Dialect::kResponses, std::move(caller));
  if (path.starts_with("/v1/messages"))
    return Generate(&services_, exchange, Dialect::kMessages, std::move(caller));
  if (path == "/v1/embeddings") return Embeddings(&services_, exchange, caller);
  if (path == "/tokenize" || path == "/detokenize")
    return Tokenize(&services_, exchange, caller, path == "/detokenize");
  if (path == "/v1/scores") return Scores(&services_, exchange, caller);
  return Rerank(&services_, exchange, caller);
}

size_t Server::Drain(double seconds, const StopToken& now) {
  stopping_ = true;
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
