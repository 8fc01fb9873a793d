#include "serve/scores.h"

#include "api/call.h"
#include "base/clock.h"
#include "serve/json_body.h"

namespace headrace::serve {

void Scores(const std::shared_ptr<Ticket>& ticket) {
  Recorder& recorder = *ticket->services().recorder;
  api::ScoreCall call;
  auto fault = api::ParseScore(ticket->request().body, &call);
  if (!fault && !recorder.on())
    fault =
        api::Fault{503, "no_catalog", "", "this server has no catalog, so there is nowhere to keep scores"};
  if (fault) return (void)ticket->Refuse(*fault);
  call.request = trace::RowIdOf(std::move(call.request));
  nlohmann::json row = {{"request", call.request},
                        {"time", NowMicros()},
                        {"name", call.name},
                        {"source", call.source},
                        {"who", call.who.empty() ? ticket->caller().key.name : call.who}};
  if (call.value) row["value"] = *call.value;
  if (!call.label.empty()) row["label"] = call.label;
  if (!call.comment.empty()) row["comment"] = call.comment;
  if (!recorder.Write(trace::Kind::kScore, row))
    return (void)ticket->Refuse(
        {503, "", "", "the score could not be written: " + recorder.stats().trouble, 5});
  ticket->Answer(Dump({{"object", "score"}, {"request", call.request}, {"name", call.name}}));
}

}  // namespace headrace::serve
