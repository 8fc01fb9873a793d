#include "serve/server_state.h"

#include "base/clock.h"
#include "serve/json_body.h"

namespace headrace::serve {
namespace {

using nlohmann::ordered_json;

const char* StateName(InFlight::State state) {
  return state == InFlight::State::kPreparing ? "preparing"
         : state == InFlight::State::kLoading ? "loading"
         : state == InFlight::State::kWaiting ? "waiting"
                                              : "answering";
}

ordered_json ModelLoadJson(const BackendReport& report) {
  ordered_json one = {
      {"name", report.name},     {"state", StateName(report.state)},   {"kind", model::TaskName(report.task)},
      {"leases", report.leases}, {"waiting_for_load", report.waiting}, {"loads", report.loads},
      {"sleeps", report.sleeps}, {"load_seconds", report.load_seconds}};
  if (!report.trouble.empty()) one["trouble"] = report.trouble;
  if (!report.served) return one;
  const Served& served = *report.served;
  one.update({{"sha256", served.sha256}, {"bytes", served.bytes}});
  if (served.embedder) one["waiting"] = served.embedder->waiting();  // texts
  if (!served.engine) return one;
  const engine::CoreStats s = served.engine->stats();
  one.update({{"running", s.running},
              {"waiting", s.waiting},
              {"cells", s.cells},
              {"cells_used", s.cells_used},
              {"steps", s.steps},
              {"prompt_tokens", s.prompt_tokens},
              {"cached_tokens", s.cached_tokens},
              {"answer_tokens", s.answer_tokens},
              {"prefill_rows", s.prefill_rows},
              {"decode_rows", s.decode_rows},
              {"evictions", s.evictions},
              {"host_bytes", s.host_bytes},
              {"preemptions", s.preemptions},
              {"decode_seconds", s.decode_seconds},
              {"sample_seconds", s.sample_seconds},
              {"step_seconds", s.step_seconds}});
  return one;
}

ordered_json RequestJson(const InFlight& request, double now) {
  return {{"id", request.id},
          {"endpoint", request.endpoint},
          {"model", request.model},
          {"key", request.key},
          {"state", StateName(request.state)},
          {"seconds", now - request.arrived},
          {"prompt_tokens", request.prompt_tokens.load()},
          {"answer_tokens", request.answer_tokens.load()}};
}

}  // namespace

std::string MetricsText(Services* services) {
  std::vector<ModelLoad> models;
  for (const BackendReport& report : services->models->reports()) {
    ModelLoad& one = models.emplace_back();
    one.name = report.name;
    one.ready = report.state == BackendReport::State::kReady;
    one.waiting = report.waiting;
    one.loads = report.loads;
    one.sleeps = report.sleeps;
    if (report.served && report.served->engine) one.stats = report.served->engine->stats();
  }
  return services->metrics->Text(models, services->http->stats(), services->recorder->stats(),
                                 services->models->swaps(), services->clock.jumps());
}

std::string Load(const Services& services) {
  const double now = MonotonicSeconds();
  ordered_json models = ordered_json::array(), requests = ordered_json::array();
  for (const BackendReport& report : services.models->reports()) models.push_back(ModelLoadJson(report));
  for (const auto& request : services.in_flight.all()) requests.push_back(RequestJson(*request, now));
  const http::HttpStats http = services.http->stats();
  const RecorderStats recorder = services.recorder->stats();
  return Dump({{"time", now},
               {"models", models},
               {"requests", requests},
               {"http",
                {{"connections", http.connections},
                 {"accepted", http.accepted},
                 {"hang_ups", http.gone},
                 {"malformed", http.malformed},
                 {"too_slow", http.too_slow}}},
               {"traces",
                {{"written", recorder.written},
                 {"dropped", recorder.dropped},
                 {"committed", recorder.committed},
                 {"trouble", recorder.trouble}}}});
}

std::string Health(const Services& services) {
  const std::string recording = services.recorder->stats().trouble, models = services.models->trouble();
  const std::string keys = services.keys->trouble();
  const std::string damaged = services.recorder->stats().damaged;
  const bool well = recording.empty() && models.empty() && keys.empty() && damaged.empty();
  ordered_json body = {{"status", well ? "ok" : "degraded"}};
  ordered_json away = ordered_json::object();
  for (const BackendReport& report : services.models->reports())
    if (report.state != BackendReport::State::kReady) away[report.name] = StateName(report.state);
  if (!away.empty()) body["not_loaded"] = away;
  if (!keys.empty()) body["keys"] = keys;
  if (!recording.empty()) body["traces"] = recording;
  if (!damaged.empty()) body["damaged_records"] = "records that could not be read are kept in " + damaged;
  if (!models.empty()) body["models"] = models;
  if (const std::string jump = services.clock.last(); !jump.empty()) body["clock"] = jump;
  return Dump(body);
}

}  // namespace headrace::serve
