#include "serve/routes.h"

#include <set>

#include "api/writer.h"
#include "serve/endpoints.h"
#include "serve/generation.h"
#include "serve/llama_endpoints.h"
#include "serve/model_list.h"
#include "serve/refusal.h"
#include "serve/server.h"
#include "trace/columns.h"

namespace headrace::serve {
namespace {

using api::Dialect;

void Say(const Asked& asked, std::string body, std::string type = "application/json") {
  asked.exchange->Answer(
      {200, {{"x-request-id", asked.caller.request_id}}, std::move(body), std::move(type)});
}

template <Dialect dialect, Want want = Want::kAnswer>
void Text(Services* services, const Asked& asked) {
  Generate(services, asked.exchange, dialect, want, asked.caller);
}

void Embed(Services* services, const Asked& asked) { Embeddings(services, asked.exchange, asked.caller); }

void Rank(Services* services, const Asked& asked) { Rerank(services, asked.exchange, asked.caller); }

template <bool back>
void Tokens(Services* services, const Asked& asked) {
  Tokenize(services, asked.exchange, asked.caller, back);
}

void Pairs(Services* services, const Asked& asked) { PairScores(services, asked.exchange, asked.caller); }

void AllSlots(Services* services, const Asked& asked) {
  size_t free = 0;
  std::string body = Slots(*services, &free);
  const bool wanted = !http::QueryValue(asked.exchange->request().query, "fail_on_no_slot").empty();
  if (wanted && free == 0)
    return Refuse(services, asked.exchange.get(), asked.caller, {503, "no_slot", "", "no slot is free", 1});
  Say(asked, std::move(body));
}

void Judge(Services* services, const Asked& asked) { Scores(services, asked.exchange, asked.caller); }

void OneModel(Services* services, const Asked& asked) {
  const bool anthropic = SpeaksAnthropic(asked.exchange->request());
  std::string entry =
      anthropic ? AnthropicModelEntry(*services, asked.rest) : ModelEntry(*services, asked.rest);
  if (entry.empty())
    return Refuse(services, asked.exchange.get(), asked.caller, NoSuchModel(*services, asked.rest));
  Say(asked, std::move(entry));
}

void AllModels(Services* services, const Asked& asked) {
  const http::HttpRequest& request = asked.exchange->request();
  Say(asked, SpeaksAnthropic(request) ? AnthropicModelList(*services, request.query) : ModelList(*services));
}

void Ready(Services* services, const Asked& asked) {
  const bool ready = services->ready && !services->stopping;
  asked.exchange->Answer(
      {ready ? 200 : 503, {}, ready ? R"({"status":"ready"})" : R"({"status":"stopping"})"});
}

api::Fault NoSuchResponse(const std::string& id) {
  return {404, "not_found", "", "there is no response '" + id + "' here", 0};
}

void OldResponse(Services* services, const Asked& asked) {
  const auto found = services->responses->Find(trace::RowIdOf(asked.rest), asked.caller.key.id);
  if (!found.ok() || !*found)
    return Refuse(services, asked.exchange.get(), asked.caller,
                  found.ok() ? NoSuchResponse(asked.rest) : api::Fault::From(found.status()));
  Say(asked, (*found)->response);
}

void DeleteResponse(Services* services, const Asked& asked) {
  const auto gone = services->responses->Delete(trace::RowIdOf(asked.rest), asked.caller.key.id);
  if (!gone.ok() || !*gone)
    return Refuse(services, asked.exchange.get(), asked.caller,
                  gone.ok() ? NoSuchResponse(asked.rest) : api::Fault::From(gone.status()));
  Say(asked, R"({"id":)" + api::JsonText(asked.rest) + R"(,"object":"response","deleted":true})");
}

constexpr char kAsk[] = "inference", kAdmin[] = "admin", kAnyone[] = "";

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", "/v1/chat/completions", kAsk, Runs::kWorker, Text<Dialect::kChat>},
    {"POST", "/v1/completions", "/v1/completions", kAsk, Runs::kWorker, Text<Dialect::kCompletions>},
    {"POST", "/v1/responses", "/v1/responses", kAsk, Runs::kWorker, Text<Dialect::kResponses>},
    {"POST", "/v1/responses/input_tokens", "/v1/responses/input_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kResponses, Want::kCount>},
    {"GET", "/v1/responses/{id}", "/v1/responses/{id}", kAsk, Runs::kWaiter, OldResponse},
    {"DELETE", "/v1/responses/{id}", "/v1/responses/{id}", kAsk, Runs::kWaiter, DeleteResponse},
    {"POST", "/v1/chat/completions/input_tokens", "/v1/chat/completions/input_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kChat, Want::kCount>},
    {"POST", "/v1/messages", "/v1/messages", kAsk, Runs::kWorker, Text<Dialect::kMessages>},
    {"POST", "/v1/messages/count_tokens", "/v1/messages/count_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kMessages, Want::kCount>},
    {"POST", "/v1/embeddings", "/v1/embeddings", kAsk, Runs::kWaiter, Embed},
    {"POST", "/v1/rerank", "/v1/rerank", kAsk, Runs::kWaiter, Rank},
    {"POST", "/v1/score", "/v1/score", kAsk, Runs::kWaiter, Pairs},
    {"POST", "/completion", "/completion", kAsk, Runs::kWorker, Text<Dialect::kNative>},
    {"POST", "/apply-template", "/apply-template", kAsk, Runs::kWorker, Text<Dialect::kChat, Want::kPrompt>},
    {"GET", "/props", "/props", kAsk, Runs::kInline,
     [](Services* services, const Asked& asked) { Say(asked, Props(*services)); }},
    {"GET", "/slots", "/slots", kAdmin, Runs::kInline, AllSlots},
    {"GET", "/v1/models", "/v1/models", kAsk, Runs::kInline, AllModels},
    {"GET", "/v1/models/{model}", "/v1/models/{model}", kAsk, Runs::kInline, OneModel},
    {"POST", "/tokenize", "/tokenize", kAsk, Runs::kWorker, Tokens<false>},
    {"POST", "/detokenize", "/detokenize", kAsk, Runs::kWorker, Tokens<true>},
    {"GET", "/tokenizer_info", "/tokenizer_info", kAsk, Runs::kInline,
     [](Services* services, const Asked& asked) { Say(asked, TokenizerInfo(*services)); }},
    {"POST", "/v1/scores", "/v1/scores", "scores", Runs::kWorker, Judge},
    {"GET", "/metrics", "/metrics", kAdmin, Runs::kInline,
     [](Services* services, const Asked& asked) {
       Say(asked, MetricsText(services), "text/plain; version=0.0.4; charset=utf-8");
     }},
    {"GET", "/load", "/load", kAdmin, Runs::kInline,
     [](Services* services, const Asked& asked) { Say(asked, Load(*services)); }},
    {"GET", "/health", "/health", kAnyone, Runs::kInline,
     [](Services* services, const Asked& asked) { Say(asked, Health(*services)); }},
    {"GET", "/ready", "/ready", kAnyone, Runs::kInline, Ready},
    {"GET", "/openapi.json", "/openapi.json", kAnyone, Runs::kInline,
     [](Services*, const Asked& asked) { Say(asked, OpenApiDocument()); }},
    {"GET", "/", "/", kAnyone, Runs::kInline,
     [](Services* services, const Asked& asked) {
       Say(asked, RouteText(*services), "text/plain; charset=utf-8");
     }},
    // For clients whose base address lacks the /v1, and those of llama.cpp and vLLM.
    {"POST", "/chat/completions", "/v1/chat/completions", kAsk, Runs::kWorker, Text<Dialect::kChat>},
    {"POST", "/completions", "/v1/completions", kAsk, Runs::kWorker, Text<Dialect::kCompletions>},
    {"POST", "/chat/completions/input_tokens", "/v1/chat/completions/input_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kChat, Want::kCount>},
    {"POST", "/responses/input_tokens", "/v1/responses/input_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kResponses, Want::kCount>},
    {"POST", "/responses", "/v1/responses", kAsk, Runs::kWorker, Text<Dialect::kResponses>},
    {"POST", "/embeddings", "/v1/embeddings", kAsk, Runs::kWaiter, Embed},
    {"POST", "/rerank", "/v1/rerank", kAsk, Runs::kWaiter, Rank},
    {"POST", "/reranking", "/v1/rerank", kAsk, Runs::kWaiter, Rank},
    {"POST", "/v1/reranking", "/v1/rerank", kAsk, Runs::kWaiter, Rank},
    {"POST", "/score", "/v1/score", kAsk, Runs::kWaiter, Pairs},
    {"GET", "/models", "/v1/models", kAsk, Runs::kInline, AllModels},
    {"GET", "/v1/health", "/health", kAnyone, Runs::kInline,
     [](Services* services, const Asked& asked) { Say(asked, Health(*services)); }},
};

// What stands for the {name}; nothing where the path is another.
bool Matches(std::string_view pattern, std::string_view path, std::string* rest) {
  const size_t open = pattern.find('{');
  if (open == std::string_view::npos) return path == pattern;
  // The id of a response is a UUID, which has digits: /v1/responses/compact is an endpoint that is not here.
  if (pattern.substr(open) == "{id}" && path.find_first_of("0123456789", open) == std::string_view::npos)
    return false;
  const std::string_view before = pattern.substr(0, open), after = pattern.substr(pattern.find('}') + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after))
    return false;
  *rest = path.substr(before.size(), path.size() - before.size() - after.size());
  return true;
}

}  // namespace

std::span<const Route> Routes() { return kRoutes; }

Match FindRoute(std::string_view method, std::string_view path) {
  Match match;
  if (method == "HEAD") method = "GET";
  for (const Route& route : kRoutes) {
    std::string rest;
    if (!Matches(route.path, path, &rest)) continue;
    // Another route may take the other methods of this path, but not of one that only a pattern has with it.
    if (!match.allowed.empty() && std::string_view(route.name) != match.name) continue;
    match.name = route.name;
    match.allowed += (match.allowed.empty() ? "" : ", ") + std::string(route.method);
    if (method != route.method || match.route != nullptr) continue;
    match.route = &route;
    match.rest = std::move(rest);
  }
  return match;
}

std::string RouteText(const Services& services) {
  std::string text = "headrace serves " + services.models->names() + "\nAPIs:";
  std::set<std::string_view> told;
  for (const Route& route : kRoutes)
    if (!route.alias() && std::string_view(route.path) != "/" && told.insert(route.path).second)
      text += std::string(" ") + route.path;
  return text + "\nDescription: /openapi.json\n";
}

}  // namespace headrace::serve
