#include "serve/queues.h"

#include <utility>

#include "serve/json_body.h"

namespace headrace::serve {
namespace {

using nlohmann::ordered_json;
using trace::Annotator;

const api::Fault kNoCatalog{503, "no_catalog", "", "this server has no catalog, so there are no queues", 0};

ordered_json Told(const std::optional<trace::QueueItem>& item) {
  if (!item) return nullptr;
  return {{"number", item->number},
          {"target", item->target.kind + ":" + item->target.id},
          {"shown", item->shown}};
}

Result<ordered_json> AnswerOf(Annotator* annotator, const std::optional<trace::QueueItem>& item) {
  HEADRACE_ASSIGN(const trace::QueueProgress progress, annotator->Progress());
  return ordered_json{{"object", "queue.item"},
                      {"queue", annotator->queue().name},
                      {"item", Told(item)},
                      {"rubric", annotator->queue().rubric.ToJson()},
                      {"progress",
                       {{"items", progress.items},
                        {"wanted", progress.wanted},
                        {"labels", progress.labels},
                        {"mine", progress.mine},
                        {"left", progress.left}}}};
}

Result<ordered_json> Act(Annotator* annotator, const api::QueueCall& call, api::QueueAction action) {
  if (action == api::QueueAction::kUndo) {
    HEADRACE_ASSIGN(const auto item, annotator->Undo());
    return AnswerOf(annotator, item);
  }
  std::string score;
  if (action == api::QueueAction::kLabel) {
    auto row = call.skip ? annotator->Skip(call.item, call.comment)
                         : annotator->Label(call.item, {call.value, call.label, call.comment, call.seconds});
    HEADRACE_TRY(row.status());
    score = row->value("id", "");
  }
  HEADRACE_ASSIGN(const auto item, annotator->Next());
  HEADRACE_ASSIGN(auto answer, AnswerOf(annotator, item));
  if (!score.empty()) answer["score"] = score;
  return answer;
}

}  // namespace

void AllQueues(const std::shared_ptr<Ticket>& ticket) {
  const Labelling& labelling = *ticket->services().labelling;
  if (!labelling.on()) return (void)ticket->Refuse(kNoCatalog);
  const auto queues = labelling.Queues();
  if (!queues.ok()) return (void)ticket->Refuse(api::Fault::From(queues.status()));
  ordered_json list = ordered_json::array();
  for (const trace::Queue& queue : *queues) list.push_back(trace::ToJson(queue));
  ticket->Answer(Dump({{"object", "list"}, {"data", std::move(list)}}));
}

void QueueItems(const std::shared_ptr<Ticket>& ticket, const std::string& queue, api::QueueAction action) {
  api::QueueCall call;
  if (const auto fault = api::ParseQueue(ticket->request().body, action, &call))
    return (void)ticket->Refuse(*fault);
  Labelling& labelling = *ticket->services().labelling;
  if (!labelling.on()) return (void)ticket->Refuse(kNoCatalog);
  if (call.who.empty()) call.who = ticket->caller().key.name;
  if (call.who.empty())
    return (void)ticket->Refuse({400, "", "who", "is missing; without keys it says who labels", 0});
  const auto annotator = labelling.For(queue, call.who);
  if (!annotator.ok()) return (void)ticket->Refuse(api::Fault::From(annotator.status()));
  const auto answer = Act(annotator->get(), call, action);
  if (answer.status().Is(Code::kConflict))
    return (void)ticket->Refuse({409, "conflict", "item", answer.status().message(), 0});
  if (!answer.ok()) return (void)ticket->Refuse(api::Fault::From(answer.status()));
  ticket->Answer(Dump(*answer));
}

}  // namespace headrace::serve
