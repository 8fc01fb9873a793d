#include "serve/rows.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

#include "api/answer.h"
#include "base/clock.h"
#include "base/utf8.h"

namespace headrace::serve {
using nlohmann::json;

namespace {

json SamplingJson(const engine::Request& request) {
  const engine::Sampling& s = request.sampling;
  json out = {{"temperature", s.temperature}, {"top_p", s.top_p}, {"seed", s.seed}};
  if (s.top_k > 0) out["top_k"] = s.top_k;
  if (s.min_p > 0) out["min_p"] = s.min_p;
  if (s.repetition_penalty != 1) out["repetition_penalty"] = s.repetition_penalty;
  if (s.frequency_penalty != 0) out["frequency_penalty"] = s.frequency_penalty;
  if (s.presence_penalty != 0) out["presence_penalty"] = s.presence_penalty;
  if (!s.logit_bias.empty()) out["logit_bias"] = s.logit_bias.size();
  if (!request.stops.empty()) out["stop"] = request.stops;
  if (request.structure.kind != engine::Structure::Kind::kNone) out["structure"] = request.structure.text;
  return out;
}

// Where the time of a request went, in one line.
std::string Why(const Outcome& outcome, double total) {
  const engine::Usage& u = outcome.usage;
  std::string text;
  const auto add = [&](const char* format, auto... values) {
    char line[160];
    std::snprintf(line, sizeof line, format, values...);
    text += (text.empty() ? "" : "; ") + std::string(line);
  };
  if (u.grammar_seconds >= 0.05) add("%.2f s compiling its grammar", u.grammar_seconds);
  if (u.queue_seconds >= 0.01) add("%.2f s in the queue", u.queue_seconds);
  if (u.prefill_seconds > 0)
    add("%.2f s for %d of %d prompt tokens (%d cached)", u.prefill_seconds, u.prompt_tokens - u.cached_tokens,
        u.prompt_tokens, u.cached_tokens);
  if (u.decode_seconds > 0 && u.answer_tokens > 0)
    add("%.2f s for %d tokens", u.decode_seconds, u.answer_tokens);
  if (u.preemptions > 0) add("gave way %d times", u.preemptions);
  const double alone = u.compute_seconds;
  if (alone > 0 && u.prefill_seconds + u.decode_seconds > 2 * alone)
    add("%.0f %% of the model's time was others'",
        100 * (1 - alone / (u.prefill_seconds + u.decode_seconds)));
  if (outcome.status == 499) add("the client hung up after %.2f s", total);
  return text;
}

std::string Finish(const Outcome& outcome) {
  if (outcome.status == 200) return outcome.finish;
  return outcome.status == 499 ? "cancelled" : outcome.status == 408 ? "timeout" : "error";
}

// What a route does, in OpenTelemetry's words.
constexpr std::pair<std::string_view, std::string_view> kOperations[] = {
    {"/v1/chat/completions", "chat"},   {"/v1/responses", "chat"},
    {"/v1/messages", "chat"},           {"/v1/completions", "text_completion"},
    {"/completion", "text_completion"}, {"/v1/embeddings", "embeddings"},
    {"/v1/rerank", "rerank"},           {"/v1/score", "rerank"},
};

bool AreHex(std::string_view digits) {
  return std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
}

// A request as a span of its caller's trace, or of one of its own. (Its queue, prefill and decode are told by
// their seconds: whoever draws the trace draws them below it, and they need no rows.)
json SpanColumns(const http::HttpRequest& request, const Caller& caller, const std::string& model) {
  const std::string& id = caller.request_id;  // 32 hex digits, as trace ids are
  json row = {{"time", caller.arrived_us},
              {"kind", "server"},
              {"service", "headrace"},
              {"provider", "headrace"},
              {"name", caller.route},
              {"trace_id", id},
              {"span_id", id.substr(id.size() / 2)}};
  for (const auto& [route, operation] : kOperations) {
    if (route != caller.route) continue;
    row["operation"] = operation;
    if (!model.empty()) row["name"] = std::string(operation) + " " + model;
  }
  // W3C trace context: version-trace_id-parent_id-flags.
  if (const auto parent = request.Header("traceparent"); parent.size() >= 55 && parent[2] == '-' &&
                                                         parent[35] == '-' && AreHex(parent.substr(3, 32)) &&
                                                         AreHex(parent.substr(36, 16))) {
    row["trace_id"] = AsciiLower(parent.substr(3, 32));
    row["parent"] = AsciiLower(parent.substr(36, 16));
    row["parent_span_id"] = row["parent"];
  }
  return row;
}

}  // namespace

json RequestRow(const Services& services, const http::HttpRequest& request, const Caller& caller,
                const std::string& model) {
  json row = {{"id", caller.request_id},    {"started", caller.arrived_us},
              {"endpoint", caller.route},   {"model", model},
              {"engine", services.build},   {"key", caller.key.id},
              {"key_name", caller.key.name}};
  if (const auto client = request.Header("user-agent"); !client.empty()) row["client"] = client;
  row.update(SpanColumns(request, caller, model));
  return row;
}

json TextCallRow(const Recorder& recorder, const api::Call& call, const Chosen& chosen,
                 const std::string& prompt) {
  json row = {{"model_sha256", chosen.served->sha256},
              {"adapter", chosen.adapter_name},
              {"user", call.user},
              {"priority", call.request.priority},
              {"stream", call.stream},
              {"max_tokens", call.request.max_tokens}};
  if (!api::TakesTexts(call.dialect)) row["template_hash"] = chosen.served->session->chat()->hash();
  recorder.SetText(&row, "input", nullptr, call.input);
  recorder.SetText(&row, "prompt", "prompt_hash", prompt);
  json sampling = SamplingJson(call.request);
  if (call.n > 1) sampling["n"] = call.n;
  row["sampling"] = sampling.dump();
  return row;
}

json EndRow(const Caller& caller, const Outcome& outcome) {
  json row = {{"id", caller.request_id},
              {"ended", caller.Now()},
              {"finish", Finish(outcome)},
              {"status", outcome.status},
              {"total_seconds", MonotonicSeconds() - caller.arrived}};
  if (!outcome.error.empty()) row["error"] = outcome.error;
  return row;
}

json UsageRow(const Caller& caller, const Outcome& outcome, double first_token) {
  const engine::Usage& u = outcome.usage;
  json row = {
      {"prompt_tokens", u.prompt_tokens},     {"cached_tokens", u.cached_tokens},
      {"answer_tokens", u.answer_tokens},     {"forced_tokens", u.forced_tokens},
      {"preemptions", u.preemptions},         {"queue_seconds", u.queue_seconds},
      {"prefill_seconds", u.prefill_seconds}, {"decode_seconds", u.decode_seconds},
      {"compute_seconds", u.compute_seconds}, {"why", Why(outcome, MonotonicSeconds() - caller.arrived)}};
  if (first_token > 0) row["first_token_seconds"] = first_token - caller.arrived;
  return row;
}

json AnswersRow(const Recorder& recorder, const std::vector<api::Choice>& choices) {
  json row = json::object();
  if (choices.empty()) return row;
  const api::Choice& first = choices[0];
  recorder.SetText(&row, "answer", "answer_hash", first.message.content);
  if (recorder.mode() != RecordMode::kFull) return row;
  if (!first.message.reasoning.empty()) row["reasoning"] = first.message.reasoning;
  if (!first.message.tool_calls.empty()) {
    json calls = json::array();
    for (const auto& call : first.message.tool_calls)
      calls.push_back({{"id", call.id}, {"name", call.name}, {"arguments", call.arguments}});
    row["tool_calls"] = calls.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  if (choices.size() > 1) {
    json all = json::array();
    for (const auto& choice : choices) all.push_back(choice.message.content);
    row["answers"] = all.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  return row;
}

}  // namespace headrace::serve
