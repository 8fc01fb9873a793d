#include "serve/routes.h"

#include <set>

#include "api/writer.h"
#include "serve/embeddings.h"
#include "serve/generation.h"
#include "serve/llama_endpoints.h"
#include "serve/model_list.h"
#include "serve/queues.h"
#include "serve/ranking.h"
#include "serve/refusal.h"
#include "serve/scores.h"
#include "serve/server.h"
#include "serve/server_state.h"
#include "serve/spans.h"
#include "serve/tokens.h"
#include "trace/columns.h"

namespace headrace::serve {
namespace {

using api::Dialect;

void Say(const Asked& asked, std::string body, std::string type = "application/json") {
  asked.ticket->Tell({200, asked.ticket->Headers(), std::move(body), std::move(type)});
}

template <Dialect dialect, Want want = Want::kAnswer>
void Text(const Asked& asked) {
  Generate(asked.ticket, dialect, want);
}

// An endpoint that needs the ticket alone.
template <void (*endpoint)(const std::shared_ptr<Ticket>&)>
void With(const Asked& asked) {
  endpoint(asked.ticket);
}

// What is said of the server as it is now.
template <std::string (*text)(const Services&)>
void About(const Asked& asked) {
  Say(asked, text(asked.ticket->services()));
}

void AllSlots(const Asked& asked) {
  size_t free = 0;
  std::string body = Slots(asked.ticket->services(), &free);
  const bool wanted = !http::QueryValue(asked.ticket->request().query, "fail_on_no_slot").empty();
  if (wanted && free == 0) return (void)asked.ticket->Refuse({503, "no_slot", "", "no slot is free", 1});
  Say(asked, std::move(body));
}

void OneModel(const Asked& asked) {
  const Services& services = asked.ticket->services();
  std::string entry = SpeaksAnthropic(asked.ticket->request()) ? AnthropicModelEntry(services, asked.rest)
                                                               : ModelEntry(services, asked.rest);
  if (entry.empty()) return (void)asked.ticket->Refuse(NoSuchModel(services, asked.rest));
  Say(asked, std::move(entry));
}

void AllModels(const Asked& asked) {
  const http::HttpRequest& request = asked.ticket->request();
  const Services& services = asked.ticket->services();
  Say(asked, SpeaksAnthropic(request) ? AnthropicModelList(services, request.query) : ModelList(services));
}

void MetricsPage(const Asked& asked) {
  Say(asked, MetricsText(&asked.ticket->services()), "text/plain; version=0.0.4; charset=utf-8");
}

void Ready(const Asked& asked) {
  const Services& services = asked.ticket->services();
  const bool ready = services.ready && !services.stopping;
  asked.ticket->Tell({ready ? 200 : 503, {}, ready ? R"({"status":"ready"})" : R"({"status":"stopping"})"});
}

void Description(const Asked& asked) { Say(asked, OpenApiDocument()); }

void FrontPage(const Asked& asked) {
  Say(asked, RouteText(asked.ticket->services()), "text/plain; charset=utf-8");
}

api::Fault NoSuchResponse(const std::string& id) {
  return {404, "not_found", "", "there is no response '" + id + "' here", 0};
}

void OldResponse(const Asked& asked) {
  Ticket& ticket = *asked.ticket;
  const auto found = ticket.services().responses->Find(trace::RowIdOf(asked.rest), ticket.caller().key.id);
  if (!found.ok()) return (void)ticket.Refuse(api::Fault::From(found.status()));
  if (!*found) return (void)ticket.Refuse(NoSuchResponse(asked.rest));
  ticket.Answer((*found)->response);
}

void DeleteResponse(const Asked& asked) {
  Ticket& ticket = *asked.ticket;
  const auto gone = ticket.services().responses->Delete(trace::RowIdOf(asked.rest), ticket.caller().key.id);
  if (!gone.ok()) return (void)ticket.Refuse(api::Fault::From(gone.status()));
  if (!*gone) return (void)ticket.Refuse(NoSuchResponse(asked.rest));
  ticket.Answer(R"({"id":)" + api::JsonText(asked.rest) + R"(,"object":"response","deleted":true})");
}

void NextItem(const Asked& asked) { QueueItems(asked.ticket, asked.rest, api::QueueAction::kNext); }
void LabelItem(const Asked& asked) { QueueItems(asked.ticket, asked.rest, api::QueueAction::kLabel); }
void UndoItem(const Asked& asked) { QueueItems(asked.ticket, asked.rest, api::QueueAction::kUndo); }

constexpr char kAsk[] = "inference", kRecord[] = "record", kAdmin[] = "admin", kAnyone[] = "";

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", "/v1/chat/completions", kAsk, Runs::kWorker, Text<Dialect::kChat>},
    {"POST", "/v1/completions", "/v1/completions", kAsk, Runs::kWorker, Text<Dialect::kCompletions>},
    {"POST", "/v1/responses", "/v1/responses", kAsk, Runs::kWorker, Text<Dialect::kResponses>},
    {"POST", "/v1/responses/input_tokens", "/v1/responses/input_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kResponses, Want::kCount>},
    {"GET", "/v1/responses/{id}", "/v1/responses/{id}", kAsk, Runs::kWorker, OldResponse},
    {"DELETE", "/v1/responses/{id}", "/v1/responses/{id}", kAsk, Runs::kWorker, DeleteResponse},
    {"POST", "/v1/chat/completions/input_tokens", "/v1/chat/completions/input_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kChat, Want::kCount>},
    {"POST", "/v1/messages", "/v1/messages", kAsk, Runs::kWorker, Text<Dialect::kMessages>},
    {"POST", "/v1/messages/count_tokens", "/v1/messages/count_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kMessages, Want::kCount>},
    {"POST", "/v1/embeddings", "/v1/embeddings", kAsk, Runs::kWorker, With<Embeddings>},
    {"POST", "/v1/rerank", "/v1/rerank", kAsk, Runs::kWorker, With<Rerank>},
    {"POST", "/v1/score", "/v1/score", kAsk, Runs::kWorker, With<PairScores>},
    {"POST", "/completion", "/completion", kAsk, Runs::kWorker, Text<Dialect::kNative>},
    {"POST", "/apply-template", "/apply-template", kAsk, Runs::kWorker, Text<Dialect::kChat, Want::kPrompt>},
    {"GET", "/props", "/props", kAsk, Runs::kInline, About<Props>},
    {"GET", "/slots", "/slots", kAdmin, Runs::kInline, AllSlots},
    {"GET", "/v1/models", "/v1/models", kAsk, Runs::kInline, AllModels},
    {"GET", "/v1/models/{model}", "/v1/models/{model}", kAsk, Runs::kInline, OneModel},
    {"POST", "/tokenize", "/tokenize", kAsk, Runs::kWorker, With<Tokenize>},
    {"POST", "/detokenize", "/detokenize", kAsk, Runs::kWorker, With<Detokenize>},
    {"GET", "/tokenizer_info", "/tokenizer_info", kAsk, Runs::kInline, About<TokenizerInfo>},
    {"POST", "/v1/scores", "/v1/scores", kRecord, Runs::kWorker, With<Scores>},
    {"POST", "/v1/traces", "/v1/traces", kRecord, Runs::kWorker, With<Spans>},
    {"GET", "/v1/queues", "/v1/queues", kRecord, Runs::kWorker, With<AllQueues>},
    {"POST", "/v1/queues/{queue}/next", "/v1/queues/{queue}/next", kRecord, Runs::kWorker, NextItem},
    {"POST", "/v1/queues/{queue}/labels", "/v1/queues/{queue}/labels", kRecord, Runs::kWorker, LabelItem},
    {"POST", "/v1/queues/{queue}/undo", "/v1/queues/{queue}/undo", kRecord, Runs::kWorker, UndoItem},
    {"GET", "/metrics", "/metrics", kAdmin, Runs::kInline, MetricsPage},
    {"GET", "/load", "/load", kAdmin, Runs::kInline, About<Load>},
    {"GET", "/health", "/health", kAnyone, Runs::kInline, About<Health>},
    {"GET", "/ready", "/ready", kAnyone, Runs::kInline, Ready},
    {"GET", "/openapi.json", "/openapi.json", kAnyone, Runs::kInline, Description},
    {"GET", "/", "/", kAnyone, Runs::kInline, FrontPage},
    // For clients whose base address lacks the /v1, and those of llama.cpp and vLLM.
    {"POST", "/chat/completions", "/v1/chat/completions", kAsk, Runs::kWorker, Text<Dialect::kChat>},
    {"POST", "/completions", "/v1/completions", kAsk, Runs::kWorker, Text<Dialect::kCompletions>},
    {"POST", "/chat/completions/input_tokens", "/v1/chat/completions/input_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kChat, Want::kCount>},
    {"POST", "/responses/input_tokens", "/v1/responses/input_tokens", kAsk, Runs::kWorker,
     Text<Dialect::kResponses, Want::kCount>},
    {"POST", "/responses", "/v1/responses", kAsk, Runs::kWorker, Text<Dialect::kResponses>},
    {"POST", "/embeddings", "/v1/embeddings", kAsk, Runs::kWorker, With<Embeddings>},
    {"POST", "/rerank", "/v1/rerank", kAsk, Runs::kWorker, With<Rerank>},
    {"POST", "/reranking", "/v1/rerank", kAsk, Runs::kWorker, With<Rerank>},
    {"POST", "/v1/reranking", "/v1/rerank", kAsk, Runs::kWorker, With<Rerank>},
    {"POST", "/score", "/v1/score", kAsk, Runs::kWorker, With<PairScores>},
    {"GET", "/models", "/v1/models", kAsk, Runs::kInline, AllModels},
    {"GET", "/v1/health", "/health", kAnyone, Runs::kInline, About<Health>},
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
