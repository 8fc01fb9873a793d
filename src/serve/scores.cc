#include "serve/scores.h"

#include "api/call.h"
#include "serve/json_body.h"
#include "trace/scores.h"

namespace headrace::serve {
namespace {

using nlohmann::json;

json RowOf(const api::ScoreCall& call, const trace::Target& target, const std::string& who) {
  json row = {{"target_kind", target.kind}, {"target", target.id}, {"name", call.name},
              {"source", call.source},      {"who", who},          {"repeat", call.repeat}};
  if (call.value) row["value"] = *call.value;
  if (call.seconds) row["seconds"] = *call.seconds;
  const std::pair<const char*, const std::string&> texts[] = {
      {"label", call.label}, {"comment", call.comment}, {"judge", call.judge},
      {"run", call.run},     {"against", call.against}, {"supersedes", call.supersedes}};
  for (const auto& [name, text] : texts)
    if (!text.empty()) row[name] = text;
  if (call.withdraw) row["state"] = "withdrawn";
  trace::FinishScore(&row);
  return row;
}

}  // namespace

void Scores(const std::shared_ptr<Ticket>& ticket) {
  Recorder& recorder = *ticket->services().recorder;
  api::ScoreCall call;
  auto fault = api::ParseScore(ticket->request().body, &call);
  if (!fault && !recorder.on())
    fault =
        api::Fault{503, "no_catalog", "", "this server has no catalog, so there is nowhere to keep scores"};
  if (fault) return (void)ticket->Refuse(*fault);
  const auto target = trace::ParseTarget(call.target_kind, call.target);
  if (!target.ok()) return (void)ticket->Refuse({400, "", "target", target.status().message(), 0});
  if (!call.against.empty()) {
    auto against = trace::ParseTarget(target->kind, call.against);
    if (!against.ok()) return (void)ticket->Refuse({400, "", "against", against.status().message(), 0});
    call.against = std::move(against->id);
  }
  const json row = RowOf(call, *target, call.who.empty() ? ticket->caller().key.name : call.who);
  if (!recorder.Write(trace::Kind::kScore, row))
    return (void)ticket->Refuse(
        {503, "", "", "the score could not be written: " + recorder.stats().trouble, 5});
  json answer = {{"object", "score"},
                 {"id", row["id"]},
                 {"target", target->kind + ":" + target->id},
                 {"name", call.name}};
  if (target->kind == "request") answer["request"] = target->id;
  ticket->Answer(Dump(answer));
}

}  // namespace headrace::serve
