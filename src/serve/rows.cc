#include "serve/rows.h"

#include "api/answer.h"
#include "base/clock.h"

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
std::string Why(const engine::Usage& u, engine::Finish finish, double total) {
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
  if (finish == engine::Finish::kCancelled) add("the client hung up after %.2f s", total);
  return text;
}

}  // namespace

json StartRow(const Services& services, const http::Exchange& exchange, const Caller& caller,
              const std::string& model) {
  const http::HttpRequest& http = exchange.request();
  json row = {{"id", caller.request_id},    {"started", caller.arrived_us},
              {"endpoint", caller.route},   {"model", model},
              {"engine", services.build},   {"key", caller.key.id},
              {"key_name", caller.key.name}};
  if (const auto client = http.Header("user-agent"); !client.empty()) row["client"] = client;
  // W3C trace context: version-trace_id-parent_id-flags.
  if (const auto parent = http.Header("traceparent");
      parent.size() >= 55 && parent[2] == '-' && parent[35] == '-') {
    row["trace_id"] = parent.substr(3, 32);
    row["parent_span_id"] = parent.substr(36, 16);
  }
  return row;
}

json StartRow(const Services& services, const http::Exchange& exchange, const Caller& caller,
              const api::Call& call, const Chosen& chosen, const std::string& prompt) {
  json row = StartRow(services, exchange, caller, call.model.empty() ? chosen.served->name : call.model);
  row["model_sha256"] = chosen.served->sha256;
  row["adapter"] = chosen.adapter_name;
  row["user"] = call.user;
  row["priority"] = call.request.priority;
  row["stream"] = call.stream;
  if (!api::TakesTexts(call.dialect)) row["template_hash"] = chosen.served->chat->hash();
  services.recorder->SetText(&row, "input", nullptr, call.input);
  services.recorder->SetText(&row, "prompt", "prompt_hash", prompt);
  json sampling = SamplingJson(call.request);
  if (call.n > 1) sampling["n"] = call.n;
  row["sampling"] = sampling.dump();
  row["max_tokens"] = call.request.max_tokens;
  return row;
}

json EndRow(const Recorder& recorder, const Caller& caller, int status, const std::string& error,
            const std::vector<api::Choice>& choices, const engine::Usage& u, double first_token) {
  const double now = MonotonicSeconds();
  json row = {{"id", caller.request_id}, {"ended", caller.Now()}, {"status", status}};
  if (!error.empty()) row["error"] = error;
  if (!choices.empty()) {
    const api::Choice& first = choices[0];
    row["finish"] = status == 200 ? api::FinishReason(first)
                                  : std::string(status == 499   ? "cancelled"
                                                : status == 408 ? "timeout"
                                                                : "error");
    recorder.SetText(&row, "answer", "answer_hash", first.message.content);
    if (recorder.mode() == RecordMode::kFull) {
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
    }
  } else {
    row["finish"] = "error";
  }
  row["prompt_tokens"] = u.prompt_tokens;
  row["cached_tokens"] = u.cached_tokens;
  row["answer_tokens"] = u.answer_tokens;
  row["forced_tokens"] = u.forced_tokens;
  row["preemptions"] = u.preemptions;
  row["queue_seconds"] = u.queue_seconds;
  row["prefill_seconds"] = u.prefill_seconds;
  row["decode_seconds"] = u.decode_seconds;
  row["compute_seconds"] = u.compute_seconds;
  if (first_token > 0) row["first_token_seconds"] = first_token - caller.arrived;
  row["total_seconds"] = now - caller.arrived;
  row["why"] = Why(u, choices.empty() ? engine::Finish::kError : choices[0].finish, now - caller.arrived);
  return row;
}

}  // namespace headrace::serve
