// What the four bodies have in common.
#pragma once

#include "api/call.h"
#include "api/fields.h"

namespace headrace::api {

// temperature, top_p, seed, penalties, logit_bias and the extensions.
void ReadSampling(Fields* body, Call* call);
// Those of vLLM and llama.cpp that need more than a number: ReadSampling calls it.
void ReadPeers(Fields* body, Call* call);
// tool_choice of type allowed_tools; `nested`: functions are named as chat completions name them.
void AllowTools(const Json& choice, const std::string& at, bool nested, Tools* tools);
// A JSON schema as the answer's structure.
void SetSchema(const Json& schema, const std::string& at, Call* call);
void SetSchemaText(std::string schema, const std::string& at, Call* call);
// structured_outputs, guided_json, guided_regex, guided_choice, guided_grammar, grammar, json_schema.
void ReadStructures(Fields* body, Call* call);
// "path[i]"
inline std::string At(const std::string& path, size_t i) { return path + "[" + std::to_string(i) + "]"; }
// Most of what a body may ask to be counted, where a model has no limit of its own; most prompts and texts in
// one request.
inline constexpr int64_t kMostCount = 1 << 30;
inline constexpr size_t kMostInputs = 2048;

// Stop strings, within the engine's limits.
std::vector<std::string> ReadStops(Fields* body, const char* name);
// The most tokens of an answer; -1: as many as the context holds, as llama.cpp's clients say it.
std::optional<int32_t> ReadMost(Fields* body, const char* name);
// truncate_prompt_tokens of texts that are embedded: longer ones are cut to so many tokens; -1: to what the
// model reads. `otherwise`: where the body has none; 0 refuses longer ones.
int ReadCut(Fields* body, int otherwise);
// deadline: seconds to the end of the answer. Without one `*timeout` stays.
void ReadDeadline(Fields* body, double* timeout);
// OpenAI's messages, and one of them; `at` is their path.
model::Message ReadMessage(const Json& json, const std::string& at);
std::vector<model::Message> ReadMessages(const Json& messages, const std::string& at);
// A text, or parts of type text.
std::string ReadContent(const Json& content, const std::string& at);
// One function: {"name", "description", "parameters"}.
model::Tool ReadFunction(const Json& function, const std::string& at, const char* schema_name);
// tools and tool_choice as chat completions have them.
void ReadTools(Fields* body, Call* call);
// Checks the choice against the list; `name_at` is the path of the name that it gives.
void CheckChoice(const std::string& at, const std::string& name_at, const Tools& tools);
// OpenAI's reasoning_effort: a variable of the template; none and minimal switch thinking off, others on.
void ReadEffort(const std::optional<std::string>& effort, Call* call);
void SetThinking(bool think, model::RenderOptions* render);
// chat_template_kwargs, add_generation_prompt, continue_final_message.
void ReadTemplate(Fields* body, model::RenderOptions* render);
model::Token ReadToken(const Json& token, const std::string& at);
std::vector<model::Token> ReadTokens(const Json& list, const std::string& at);
// Prompts as llama.cpp takes them: one, or an array of several; 1 to 2,048.
std::vector<PromptInput> ReadPrompts(const Json& value, const std::string& at);

// A body, read by `read`; what it refuses is what comes back.
template <typename Read>
std::optional<Fault> Reading(std::string_view body, Read read) {
  try {
    read(ParseBody(body));
  } catch (Fault& fault) {
    return std::move(fault);
  }
  return std::nullopt;
}

void ParseChat(const Json& json, Call* call);
void ParseCompletions(const Json& json, Call* call);
void ParseResponses(const Json& json, Call* call);
void ParseMessages(const Json& json, Call* call);
void ParseNative(const Json& json, Call* call);

}  // namespace headrace::api
