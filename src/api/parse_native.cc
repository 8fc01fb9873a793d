// The body of llama.cpp's own /completion (tools/server/README.md).
#include <algorithm>

#include "api/parse_parts.h"

namespace headrace::api {
namespace {

constexpr char kWanted[] = "must be a string, an array of strings, or tokens; not empty";

MixedText ReadMixed(const Json& parts, const std::string& at) {
  MixedText mixed;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].is_string()) {
      mixed.emplace_back(parts[i].get<std::string>());
    } else {
      mixed.emplace_back(ReadToken(parts[i], At(at, i)));
    }
  }
  return mixed;
}

bool IsToken(const Json& value) { return value.is_number(); }

// A text, tokens, both in a row, {"prompt_string": text}, or {"content": [{"type": "text", "text"}, …]}.
PromptInput ReadPrompt(const Json& value, const std::string& at) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object()) {
    Fields fields(value, at);
    if (fields.Find("multimodal_data") != nullptr)
      Refuse(fields.PathOf("multimodal_data"), "is not supported: this model reads text");
    if (const Json* parts = fields.Array("content"); parts != nullptr && !parts->empty())
      return ReadContent(*parts, fields.PathOf("content"));
    if (fields.Find("prompt_string") == nullptr) Refuse(at, kWanted);
    return fields.NeedText("prompt_string");
  }
  if (!value.is_array() || value.empty()) Refuse(at, kWanted);
  if (std::all_of(value.begin(), value.end(), IsToken)) return ReadTokens(value, at);
  return ReadMixed(value, at);
}

}  // namespace

std::vector<PromptInput> ReadPrompts(const Json& value, const std::string& at) {
  // An array that holds a token, or nothing, is one prompt; one of texts, arrays and objects is several.
  if (!value.is_array() || value.empty() || std::any_of(value.begin(), value.end(), IsToken))
    return {ReadPrompt(value, at)};
  if (value.size() > kMostInputs) Refuse(at, "has more than 2,048 entries");
  std::vector<PromptInput> prompts;
  for (size_t i = 0; i < value.size(); ++i) prompts.push_back(ReadPrompt(value[i], At(at, i)));
  return prompts;
}

namespace {

// [[token or text, bias or false], …], or {"token or text": bias}.
void ReadNativeBias(const Json& bias, Call* call) {
  const auto add = [&](const Json& what, const std::string& what_at, const Json& amount,
                       const std::string& at) {
    float value = -100;
    if (amount.is_number()) {
      value = std::clamp(amount.get<float>(), -100.0F, 100.0F);
    } else if (amount != false) {
      Refuse(at, "must be a number, or false");
    }
    if (what.is_string()) {
      call->bias_texts.emplace_back(what.get<std::string>(), value);
    } else {
      call->request.sampling.logit_bias.emplace_back(ReadToken(what, what_at), value);
    }
  };
  if (bias.size() > 1024) Refuse("logit_bias", "has more than 1,024 entries");
  if (bias.is_object()) {
    for (const auto& [name, amount] : bias.items()) {
      const bool number =
          !name.empty() && name.size() < 10 && name.find_first_not_of("0123456789") == std::string::npos;
      add(number ? Json(std::stol(name)) : Json(name), "logit_bias." + name, amount, "logit_bias." + name);
    }
  } else if (bias.is_array()) {
    for (size_t i = 0; i < bias.size(); ++i) {
      if (!bias[i].is_array() || bias[i].size() != 2) Refuse(At("logit_bias", i), "must be [token, bias]");
      const std::string at = At("logit_bias", i);
      add(bias[i][0], At(at, 0), bias[i][1], At(at, 1));
    }
  } else {
    Refuse("logit_bias", "must be an array or an object");
  }
}

}  // namespace

void ParseNative(const Json& json, Call* call) {
  Fields body(json, "");
  engine::Request& request = call->request;
  engine::Sampling& s = request.sampling;
  const auto usual = [&](const char* name, auto value, auto* to) {  // llama.cpp's defaults
    if (!call->defaulted.contains(name)) *to = value;
  };
  usual("temperature", 0.8F, &s.temperature);
  usual("top_k", 40, &s.top_k);
  usual("top_p", 0.95F, &s.top_p);
  usual("min_p", 0.05F, &s.min_p);
  call->model = body.Text("model").value_or("");
  call->prompts = ReadPrompts(body.Need("prompt"), "prompt");
  Json rest = json;
  rest.erase("logit_bias");
  for (const char* name : {"temperature", "top_p", "min_p"})  // out of range: as far as it goes
    if (rest.contains(name) && rest[name].is_number()) rest[name] = std::max(rest[name].get<double>(), 0.0);
  Fields sampled(rest, "");
  ReadSampling(&sampled, call);
  if (const Json* bias = body.Find("logit_bias")) ReadNativeBias(*bias, call);
  const auto most = body.Integer("n_predict", -2, kMostCount);
  const auto other = body.Integer("max_tokens", -1, kMostCount);
  if (most || other) request.max_tokens = static_cast<int32_t>(std::max<int64_t>(most ? *most : *other, -1));
  if (const auto count = body.Integer("n_cmpl", engine::kAnswers)) call->n = static_cast<int>(*count);
  call->stream = body.Flag("stream", false);
  request.stops = body.Texts("stop");
  std::erase(request.stops, "");
  if (const auto top = body.Integer("n_probs", 0, 100); top && *top > 0)
    request.top_logprobs = static_cast<int>(*top);
  call->return_tokens = body.Flag("return_tokens", false);
  call->response_fields = body.Texts("response_fields");
  ReadStructures(&body, call);
  call->input = Json{{"prompt", json.at("prompt")}}.dump();
  // What ReadSampling has read, and what changes nothing here.
  for (const auto& [name, value] : rest.items()) (void)sampled.Find(name);
  for (const char* name : {"temperature",
                           "top_p",
                           "top_k",
                           "min_p",
                           "frequency_penalty",
                           "presence_penalty",
                           "repeat_penalty",
                           "repetition_penalty",
                           "seed",
                           "ignore_eos",
                           "cache_prompt",
                           "lookup",
                           "priority",
                           "deadline",
                           "n",
                           "user",
                           "stop_token_ids",
                           "min_tokens",
                           "bad_words",
                           "xtc_probability",
                           "xtc_threshold",
                           "dry_multiplier",
                           "dry_base",
                           "dry_allowed_length",
                           "dry_penalty_last_n",
                           "dry_sequence_breakers",
                           "timings_per_token",
                           "return_progress",
                           "id_slot"})
    body.Find(name);
  body.Rest(&call->unknown);
}

}  // namespace headrace::api
