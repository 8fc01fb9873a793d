// Bodies of /rerank and /score.
#include "api/parse_parts.h"

namespace headrace::api {
namespace {

// Texts, or objects with one.
std::vector<std::string> ReadTexts(const Json& list, const std::string& at) {
  if (!list.is_array() || list.empty()) Refuse(at, "must be an array of texts, not empty");
  if (list.size() > kMostInputs) Refuse(at, "has more than 2,048 entries");
  std::vector<std::string> texts;
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_string() && !list[i].is_object())
      Refuse(At(at, i), "must be a text, or an object with one, not " + KindOf(list[i]));
    texts.push_back(list[i].is_string() ? list[i].get<std::string>()
                                        : Fields(list[i], At(at, i)).NeedText("text"));
  }
  return texts;
}

// One text or several; `*at`: where they stand.
std::vector<std::string> ReadOneOrMore(Fields* body, const char* name, const char* other, std::string* at) {
  const Json* value = body->Find(name);
  *at = name;
  if (value == nullptr) {
    value = body->Find(other);
    if (value != nullptr) *at = other;
  }
  if (value == nullptr) Refuse(*at, "is missing");
  if (value->is_string()) return {value->get<std::string>()};
  return ReadTexts(*value, *at);
}

}  // namespace

std::optional<Fault> ParseRerank(std::string_view text, RerankCall* call) {
  return Reading(text, [&](const Json& json) {
    Fields body(json, "");
    call->model = body.Text("model").value_or("");
    call->query = body.NeedText("query");
    const Json* texts = body.Find("texts");  // as text-embeddings-inference names them
    call->tei = texts != nullptr && body.Find("documents") == nullptr;
    call->documents = call->tei ? ReadTexts(*texts, "texts") : ReadTexts(body.Need("documents"), "documents");
    call->top_n = static_cast<int>(body.Integer("top_n", 1, 1 << 20).value_or(0));
    call->return_documents = body.Flag(call->tei ? "return_text" : "return_documents", false);
    call->raw_scores = body.Flag("raw_scores", false);
    call->cut = ReadCut(&body, body.Flag("truncate", true) ? -1 : 0);
    ReadDeadline(&body, &call->timeout);
    const std::string side = body.Text("truncation_direction").value_or("Right");
    body.Rest(&call->unknown);
    // Texts are cut at their end; who asks for their beginning is told.
    if (side != "Right" && side != "right") call->unknown.emplace_back("truncation_direction");
  });
}

std::optional<Fault> ParsePairs(std::string_view text, PairsCall* call) {
  return Reading(text, [&](const Json& json) {
    Fields body(json, "");
    call->model = body.Text("model").value_or("");
    call->first = ReadOneOrMore(&body, "text_1", "queries", &call->first_at);
    call->second = ReadOneOrMore(&body, "text_2", "documents", &call->second_at);
    if (call->first.size() != 1 && call->first.size() != call->second.size())
      Refuse(call->second_at, "has " + std::to_string(call->second.size()) + " texts for the " +
                                  std::to_string(call->first.size()) + " of " + call->first_at +
                                  ": as many, or " + call->first_at + " is one");
    call->cut = ReadCut(&body, 0);
    ReadDeadline(&body, &call->timeout);
    for (const char* name : {"encoding_format", "user", "softmax", "use_activation", "priority"})
      body.Find(name);
    body.Rest(&call->unknown);
  });
}

}  // namespace headrace::api
