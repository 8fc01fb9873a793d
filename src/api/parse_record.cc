// Bodies of what is recorded of answers and items: scores, and labels of queues.
#include "api/parse_parts.h"

namespace headrace::api {
namespace {

void ReadScoreTarget(Fields* body, ScoreCall* call) {
  const auto request = body->Text("request"), target = body->Text("target");
  call->target_kind = body->Text("target_kind").value_or("");
  if (request && target) Refuse("target", "is there beside 'request'; one is enough");
  if (!request && !target) Refuse("request", "is missing; it, or 'target', says what is judged");
  if (request) {
    if (!call->target_kind.empty()) Refuse("target_kind", "belongs to 'target', not to 'request'");
    call->target_kind = "request";
  }
  call->target = request ? *request : *target;
  if (call->target.empty())
    Refuse(request ? "request" : "target",
           request ? "is empty; it is the id of an answer" : "is empty; it is what is judged");
  call->against = body->Text("against").value_or("");
}

}  // namespace

std::optional<Fault> ParseScore(std::string_view text, ScoreCall* call) {
  return Reading(text, [&](const Json& json) {
    Fields body(json, "");
    ReadScoreTarget(&body, call);
    if (const auto name = body.Text("name")) call->name = *name;
    if (const Json* value = body.Find("value")) {
      if (value->is_boolean()) {
        call->value = value->get<bool>() ? 1 : 0;
      } else {
        call->value = body.Number("value", -1e300, 1e300);
      }
    }
    call->label = body.Text("label").value_or("");
    call->comment = body.Text("comment").value_or("");
    if (const auto source = body.Text("source")) call->source = *source;
    if (call->source != "person" && call->source != "model" && call->source != "program" &&
        call->source != "user")
      Refuse("source", "is '" + call->source + "'; there are person, model, program and user");
    call->who = body.Text("who").value_or("");
    call->judge = body.Text("judge").value_or("");
    call->run = body.Text("run").value_or("");
    call->supersedes = body.Text("supersedes").value_or("");
    call->repeat = body.Integer("repeat", 0, 1'000'000).value_or(0);
    call->seconds = body.Number("seconds", 0, 1e9);
    call->withdraw = body.Flag("withdraw", false);
    if (!call->withdraw && !call->value && call->label.empty() && call->comment.empty())
      Refuse("value", "is missing; a score has a value, a label or a comment");
  });
}

std::optional<Fault> ParseQueue(std::string_view text, QueueAction action, QueueCall* call) {
  return Reading(text, [&](const Json& json) {
    Fields body(json, "");
    call->who = body.Text("who").value_or("");
    if (action != QueueAction::kLabel) return;
    const auto item = body.Integer("item", 0, INT64_MAX);
    if (!item) Refuse("item", "is missing; it is the number of the item");
    call->item = *item;
    call->skip = body.Flag("skip", false);
    call->value = body.Number("value", -1e300, 1e300);
    call->label = body.Text("label").value_or("");
    call->comment = body.Text("comment").value_or("");
    call->seconds = body.Number("seconds", 0, 1e9).value_or(0);
    if (!call->skip && !call->value && call->label.empty())
      Refuse("label", "is missing; an item gets a label, a value, or is skipped");
    if (call->skip && (call->value || !call->label.empty()))
      Refuse("skip", "is there beside a label; one of them");
  });
}

}  // namespace headrace::api
