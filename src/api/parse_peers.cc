// What clients of vLLM (docs.vllm.ai, SamplingParams) and llama.cpp (tools/server/README.md) send beside
// OpenAI's fields.
#include <algorithm>

#include "api/parse_parts.h"
#include "engine/sampling_ranges.h"

namespace headrace::api {
namespace {

constexpr size_t kMostWords = 256, kMostStopTokens = 256;

void ReadDry(Fields* body, engine::Dry* dry) {
  const engine::Range multipliers = engine::kDryMultipliers, bases = engine::kDryBases;
  if (const auto value = body->Number("dry_multiplier", multipliers.least, multipliers.most))
    dry->multiplier = static_cast<float>(*value);
  // llama.cpp's rule: what is no base (from 0 to 1) asks for the usual one.
  if (const auto value = body->Number("dry_base", 0, bases.most); value && *value >= bases.least)
    dry->base = static_cast<float>(*value);
  if (const auto length = body->Integer("dry_allowed_length", 0, kMostCount))
    dry->allowed_length = static_cast<int32_t>(*length);
  if (const auto last = body->Integer("dry_penalty_last_n", -1, kMostCount))
    dry->last_n = static_cast<int32_t>(*last < 0 ? kMostCount : *last);  // -1: the whole context
  if (const Json* breakers = body->Array("dry_sequence_breakers")) {
    if (breakers->empty()) Refuse("dry_sequence_breakers", "must be an array of strings, not empty");
    dry->breakers = body->Texts("dry_sequence_breakers");
  }
}

}  // namespace

void ReadPeers(Fields* body, Call* call) {
  engine::Request& request = call->request;
  engine::Sampling& s = request.sampling;
  if (const Json* tokens = body->Array("stop_token_ids")) {
    request.stop_tokens = ReadTokens(*tokens, body->PathOf("stop_token_ids"));
    if (request.stop_tokens.size() > kMostStopTokens) Refuse("stop_token_ids", "has more than 256 tokens");
  }
  if (const auto least = body->Integer("min_tokens", 0, kMostCount))
    s.min_tokens = static_cast<int32_t>(*least);
  call->bad_words = body->Texts("bad_words");
  if (call->bad_words.size() > kMostWords) Refuse("bad_words", "has more than 256 words");
  for (size_t i = 0; i < call->bad_words.size(); ++i)
    if (call->bad_words[i].find_first_not_of(' ') == std::string::npos)
      Refuse("bad_words[" + std::to_string(i) + "]", "is empty");
  if (const auto chance =
          body->Number("xtc_probability", engine::kProbabilities.least, engine::kProbabilities.most))
    s.xtc_probability = static_cast<float>(*chance);
  if (const auto threshold =
          body->Number("xtc_threshold", engine::kProbabilities.least, engine::kProbabilities.most))
    s.xtc_threshold = static_cast<float>(*threshold);
  ReadDry(body, &s.dry);
  call->timings = body->Flag("timings_per_token", false);
  call->progress = body->Flag("return_progress", false);
}

// {"mode": "auto" | "required", "tools": [{"type": "function", …}]}: of the tools, only these may be called.
void AllowTools(const Json& choice, const std::string& at, bool nested, Tools* tools) {
  Fields outer(choice, at);
  const std::string mode = outer.NeedText("mode");
  if (mode != "auto" && mode != "required")
    Refuse(outer.PathOf("mode"), "is '" + mode + "'; there are auto and required");
  const Json* list = outer.Array("tools");
  if (list == nullptr || list->empty()) Refuse(outer.PathOf("tools"), "must be an array, not empty");
  std::vector<model::Tool> allowed;
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string place = outer.PathOf("tools") + "[" + std::to_string(i) + "]";
    Fields entry((*list)[i], place);
    if (const std::string type = entry.Text("type").value_or("function"); type != "function") continue;
    Fields named(nested ? entry.Need("function") : (*list)[i], nested ? entry.PathOf("function") : place);
    const std::string name = named.NeedText("name");
    const auto found = std::find_if(tools->list.begin(), tools->list.end(),
                                    [&](const model::Tool& tool) { return tool.name == name; });
    if (found == tools->list.end())
      Refuse(named.PathOf("name"), "is '" + name + "', which is not among the tools");
    if (std::none_of(allowed.begin(), allowed.end(), [&](const auto& tool) { return tool.name == name; }))
      allowed.push_back(*found);
  }
  tools->list = std::move(allowed);
  tools->choice = mode == "auto" ? Tools::Choice::kAuto : Tools::Choice::kRequired;
}

}  // namespace headrace::api
