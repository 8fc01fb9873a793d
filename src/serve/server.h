// server: models behind the APIs that clients speak already. Begin here.
//
//   ServeOptions options;
//   options.models = {{"gemma", "gemma"}};
//   HEADRACE_ASSIGN(auto server, Server::Start(catalog, std::move(options)));
//   … server->url() …
//   server->Drain(30, {});
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/fault.h"
#include "base/cancel.h"
#include "http/http_server.h"
#include "serve/cors.h"
#include "serve/models.h"
#include "serve/record_mode.h"

namespace headrace::serve {

struct Asked;
struct Caller;
struct KeyFacts;
struct Match;
struct Route;
struct Services;

struct ServeOptions {
  http::HttpOptions http;  // http.http2: OTLP/gRPC
  std::vector<ModelChoice> models;
  ModelOptions model;
  RecordMode record = RecordMode::kFull;
  double commit_seconds = 30;
  bool strict_fields = false;
  std::string defaults;  // of fields that a call leaves out: JSON, see api::ParseDefaults; "" for none
  std::vector<std::string> cors_origins;  // whose pages may ask from a browser; see Cors
  std::vector<std::string> hosts;  // names of this server, for requests without a key; see StrangerRules
  bool open = false;  // anyone may ask, though there are keys, or though strangers can reach the port
};

class Server {
 public:
  // `catalog` may be null: models are files, nothing is recorded, there are no keys.
  static Result<std::unique_ptr<Server>> Start(std::shared_ptr<table::Catalog> catalog, ServeOptions options);
  ~Server();

  std::string url() const;  // of the first host; "unix:PATH" where all are socket files
  uint16_t port() const { return http_->port(); }
  // Where OTLP/gRPC is taken: of the first host that is no socket file; "" where it is not.
  std::string otlp_grpc() const;
  Services& services() { return *services_; }
  // Takes nothing new; waits for what runs, at most so long or until `now` says stop; then ends the rest with
  // an error. The number that was ended.
  size_t Drain(double seconds, const StopToken& now);

 private:
  Server();
  void Handle(std::shared_ptr<http::Exchange> exchange);
  std::optional<http::HttpResponse> Gate(const http::HttpRequest& head);
  http::HttpResponse NoRoute(const http::HttpRequest& request, const Match& match, const Caller& caller);
  std::optional<api::Fault> Admit(const http::HttpRequest& head, const Match& match, KeyFacts* key) const;
  void Run(const Route& route, Asked asked);
  std::string FirstHost() const;
  void AwaitEnds(double seconds, const StopToken& now) const;
  std::optional<KeyFacts> Authenticate(const http::HttpRequest& request) const;
  void Tick();
  void SetWeights(const Served& served) const;

  ServeOptions options_;
  Cors cors_;
  std::unique_ptr<Services> services_;
  std::unique_ptr<http::HttpServer> http_;
  std::string keys_told_;  // of what is wrong with the keys, on stderr
};

// The description of all of it: openapis.org, version 3.1.
std::string OpenApiDocument();

}  // namespace headrace::serve
