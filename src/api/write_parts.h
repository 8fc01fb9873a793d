#pragma once

#include "base/json.h"

#include "api/writer.h"

namespace headrace::api {

using nlohmann::ordered_json;

std::string Dump(const ordered_json& json);
// Tokens of all answers together; a prompt with n answers counts once.
struct Totals {
  int64_t prompt = 0, cached = 0, answer = 0;
};
Totals Sum(const std::vector<Choice>& choices, int n);

// What OpenAI's chat and completions share: `usage`; a whole answer; an event up to its first choice,
// `object` being its kind; its end. One of them is written for each token: they are put together as text.
ordered_json UsageJson(const std::vector<Choice>& choices, int n);
std::string WholeBody(const Head& head, const char* object, ordered_json list,
                      const std::vector<Choice>& choices, int n);
std::string EventLead(const Head& head, const char* object);
// `more`: other fields, each with a comma before it.
inline std::string EventEnd(bool usage, const std::string& more = "") {
  return (usage ? "],\"usage\":null" : "]") + more + "}\n\n";
}
// llama.cpp's (tools/server/README.md): how fast it was; how far a prompt is.
ordered_json Timings(const engine::Usage& usage);
std::string TimingsField(const engine::Usage& usage);  // as `more` of EventEnd
ordered_json ProgressJson(const engine::Usage& usage, int32_t processed);
std::string ProgressField(const engine::Usage& usage, int32_t processed);
// What ended it, as vLLM tells it: the stop string, or the token's number.
ordered_json StopReason(const Choice& choice);
std::string LastEvents(const std::string& lead, bool usage, const std::vector<Choice>& choices, int n);

std::unique_ptr<Writer> MakeChat(const Call& call, Head head);
std::unique_ptr<Writer> MakeCompletions(const Call& call, Head head);
std::unique_ptr<Writer> MakeNative(const Call& call, Head head);
std::unique_ptr<Writer> MakeResponses(const Call& call, Head head);
std::unique_ptr<Writer> MakeMessages(const Call& call, Head head);

// [{"token", "logprob", "bytes", "top_logprobs"}] of tokens [from, end).
ordered_json ChatLogprobs(const std::vector<engine::TokenOut>& tokens, size_t from, const Head& head);

}  // namespace headrace::api
