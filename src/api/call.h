// Call: what a client asks for, whichever of the four APIs it speaks. Bodies are read here and nowhere else;
// the functions are pure.
//
//   OpenAI   POST /v1/chat/completions, /v1/completions, /v1/responses
//   Anthropic POST /v1/messages
//
// Extensions of vLLM and llama.cpp that clients send are honoured: top_k, min_p, repetition_penalty,
// ignore_eos, chat_template_kwargs, structured_outputs and the older guided_*, grammar, cache_prompt,
// priority, add_generation_prompt, continue_final_message, add_special_tokens, prompt_logprobs,
// stop_token_ids, min_tokens, bad_words, dry_*, xtc_*, timings_per_token, return_progress; our own are
// deadline (seconds to the end of the answer) and lookup.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/fault.h"
#include "engine/request.h"
#include "model/chat.h"

namespace headrace::api {

enum class Dialect { kChat, kCompletions, kResponses, kMessages };

struct Tools {
  enum class Choice { kAuto, kNone, kRequired, kNamed };
  std::vector<model::Tool> list;
  Choice choice = Choice::kAuto;
  std::string named;
  bool parallel = true;
  // Whether calls are told in the answer: there are tools, and they may be called.
  bool callable() const { return !list.empty() && choice != Choice::kNone; }
  bool enforced() const { return callable() && choice != Choice::kAuto; }
};

struct Call {
  Dialect dialect = Dialect::kChat;
  std::string model;
  // Of all but completions.
  std::vector<model::Message> messages;
  model::RenderOptions render;
  Tools tools;
  // Of completions: texts, or tokens.
  std::vector<std::variant<std::string, std::vector<model::Token>>> prompts;
  bool special = true;  // a text begins with the model's beginning-of-sequence token
  bool parse = true;    // names of control tokens in it stand for them: a prompt is what the model reads
  bool echo = false;
  bool count = false;  // asked for before parsing: only the prompt's tokens are wanted, so no limit is needed

  engine::Request request;             // all but its prompt, adapter, key and scope
  std::vector<std::string> bad_words;  // for request.sampling: their tokens are the model's
  bool seeded = false;                 // the client gave the seed
  int n = 1;                           // answers to each prompt
  bool stream = false;
  bool include_usage = false;
  bool timings = false;   // with each piece of a stream
  bool progress = false;  // of the prompt, before the first piece of a stream
  bool give_reasoning = true;
  std::string user;
  std::string input;     // what was said, as JSON, for the trace
  std::string previous;  // of /v1/responses: what it goes on with (Continue)
  bool store = true;     // of /v1/responses: it may be asked for again
  // Given back as they came (/v1/responses): JSON texts by name.
  std::map<std::string, std::string> given_back;
  std::vector<std::string> unknown;  // paths of fields that nothing here reads
};

// Reads a body. The fault, if there is one, names the field. `call` is complete otherwise.
std::optional<Fault> ParseCall(Dialect dialect, std::string_view body, Call* call);

// Puts what was said before in front of a call to /v1/responses that names a previous one: `input` as that
// call's trace has it, `response` as it was told.
std::optional<Fault> Continue(std::string_view input, std::string_view response, Call* call);

struct EmbeddingsCall {
  std::string model;
  std::vector<std::variant<std::string, std::vector<model::Token>>> inputs;
  int dimensions = 0;   // 0: all
  bool base64 = false;  // little-endian floats
  bool cut = false;     // truncate_prompt_tokens = -1, truncate = true
  std::string user;
  std::vector<std::string> unknown;
};
std::optional<Fault> ParseEmbeddings(std::string_view body, EmbeddingsCall* call);

struct RerankCall {
  std::string model, query;
  std::vector<std::string> documents;
  int top_n = 0;  // 0: all
  bool return_documents = false;
  std::vector<std::string> unknown;
};
std::optional<Fault> ParseRerank(std::string_view body, RerankCall* call);

struct TokenizeCall {
  std::string model, text;
  std::vector<model::Message> messages;  // instead of a text
  model::RenderOptions render;
  std::vector<model::Token> tokens;  // of /detokenize
  bool special = true;
  bool parse = true;    // names of control tokens stand for them
  bool pieces = false;  // return_token_strs
};
std::optional<Fault> ParseTokenize(std::string_view body, bool back, TokenizeCall* call);

struct ScoreCall {
  std::string request, name = "score", label, comment, source = "person", who;
  std::optional<double> value;
};
std::optional<Fault> ParseScore(std::string_view body, ScoreCall* call);

}  // namespace headrace::api
