// Call: what a client asks for, whichever of the four APIs it speaks. Bodies are read here and nowhere else;
// the functions are pure.
//
//   OpenAI   POST /v1/chat/completions, /v1/completions, /v1/responses
//   Anthropic POST /v1/messages
//   llama.cpp POST /completion
//
// Extensions of vLLM and llama.cpp that clients send are honoured: top_k, min_p, repetition_penalty,
// ignore_eos, chat_template_kwargs, structured_outputs and the older guided_*, grammar, cache_prompt,
// priority, add_generation_prompt, continue_final_message, add_special_tokens, prompt_logprobs,
// stop_token_ids, min_tokens, bad_words, dry_*, xtc_*, timings_per_token, return_progress; our own are
// deadline (seconds to the end of the answer) and lookup.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/fault.h"
#include "engine/request.h"
#include "model/chat.h"

namespace headrace::api {

enum class Dialect { kChat, kCompletions, kResponses, kMessages, kNative };  // the last: llama.cpp's own
// Whether its prompts are texts, and not conversations.
inline bool TakesTexts(Dialect dialect) {
  return dialect == Dialect::kCompletions || dialect == Dialect::kNative;
}

// The field that holds what the model is to read.
inline const char* PromptField(Dialect dialect) {
  return TakesTexts(dialect) ? "prompt" : dialect == Dialect::kResponses ? "input" : "messages";
}

// A prompt as a client may give it: a text, tokens, or both in a row.
using MixedText = std::vector<std::variant<std::string, model::Token>>;
using PromptInput = std::variant<std::string, std::vector<model::Token>, MixedText>;

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
  std::vector<PromptInput> prompts;  // of completions
  bool special = true;               // a text begins with the model's beginning-of-sequence token
  bool parse = true;  // names of control tokens in it stand for them: a prompt is what the model reads
  bool echo = false;
  bool count = false;  // asked for before parsing: only the prompt's tokens are wanted, so no limit is needed

  engine::Request request;  // all but its prompt, adapter, key and scope
  // For request.sampling, whose tokens are the model's.
  std::vector<std::string> bad_words;
  std::vector<std::pair<std::string, float>> bias_texts;  // for each token of the text
  bool seeded = false;                                    // the client gave the seed
  std::string structure_at;                               // path of what asks for request.structure
  int n = 1;                                              // answers to each prompt
  bool stream = false;
  bool include_usage = false;
  bool timings = false;   // with each piece of a stream
  bool progress = false;  // of the prompt, before the first piece of a stream
  bool give_reasoning = true;
  bool return_tokens = false;                // of llama.cpp's API, as are these
  std::vector<std::string> response_fields;  // empty: all
  std::string user;
  std::string input;     // what was said, as JSON, for the trace
  std::string previous;  // of /v1/responses: what it goes on with (Continue)
  bool store = true;     // of /v1/responses: it may be asked for again
  // Given back as they came (/v1/responses): JSON texts by name.
  std::map<std::string, std::string> given_back;
  std::vector<std::string> unknown;  // paths of fields that nothing here reads
  std::set<std::string> defaulted;   // fields that ParseDefaults has set
};

// What calls have that leave a field out: {"temperature": 0.7, "max_tokens": 512,
// "chat_template_kwargs": {"enable_thinking": false}, …}. A copy of `call` is what ParseCall begins with.
std::optional<Fault> ParseDefaults(std::string_view json, Call* call);

// Reads a body. The fault, if there is one, names the field. `call` is complete otherwise.
std::optional<Fault> ParseCall(Dialect dialect, std::string_view body, Call* call);

// Puts what was said before in front of a call to /v1/responses that names a previous one: `input` as that
// call's trace has it, `response` as it was told.
std::optional<Fault> Continue(std::string_view input, std::string_view response, Call* call);

struct EmbeddingsCall {
  std::string model;
  std::vector<PromptInput> inputs;
  bool listed = false;  // they came as a list: one alone did not
  int dimensions = 0;   // 0: all
  bool base64 = false;  // little-endian floats
  int cut = 0;          // longer inputs are cut to so many tokens; -1: to the model's limit, 0: refused
  double timeout = 0;   // seconds to the end of the answer, 0: none
  std::string user;
  std::vector<std::string> unknown;
};
std::optional<Fault> ParseEmbeddings(std::string_view body, EmbeddingsCall* call);

struct RerankCall {
  std::string model, query;
  std::vector<std::string> documents;
  int top_n = 0;  // 0: all
  int cut = -1;   // as of EmbeddingsCall, as is the next
  double timeout = 0;
  bool return_documents = false;
  // As text-embeddings-inference has it: `texts`, and a list alone as the answer; its scores lie between 0
  // and 1 (the logistic function of the cosine), or are raw.
  bool tei = false, raw_scores = false;
  std::vector<std::string> unknown;
};
std::optional<Fault> ParseRerank(std::string_view body, RerankCall* call);

// vLLM's /score: one text, or as many as there are others, against others.
struct PairsCall {
  std::string model;
  std::vector<std::string> first, second;
  std::string first_at, second_at;  // the fields that hold them
  int cut = 0;                      // as of EmbeddingsCall, as is the next
  double timeout = 0;
  std::vector<std::string> unknown;
};
std::optional<Fault> ParsePairs(std::string_view body, PairsCall* call);

struct TokenizeCall {
  std::string model, text;
  const char* text_at = "prompt";        // the field that holds the text
  std::vector<model::Message> messages;  // instead of a text
  Tools tools;                           // with them
  model::RenderOptions render;
  std::vector<model::Token> tokens;  // of /detokenize
  bool special = true;
  bool parse = true;         // names of control tokens stand for them
  bool pieces = false;       // return_token_strs
  bool with_pieces = false;  // llama.cpp's: each token as {"id", "piece"}
};
std::optional<Fault> ParseTokenize(std::string_view body, bool back, TokenizeCall* call);

struct ScoreCall {
  // `target` with its kind before it, or `target_kind` apart; `request` is short for one of kind request.
  std::string target_kind, target, against;
  std::string name = "score", label, comment, source = "person", who, judge, run, supersedes;
  std::optional<double> value, seconds;
  int64_t repeat = 0;
  bool withdraw = false;  // the score of the same target, name, who, judge and repeat
};
std::optional<Fault> ParseScore(std::string_view body, ScoreCall* call);

// What somebody who labels a queue's items asks for.
enum class QueueAction { kNext, kLabel, kUndo };
struct QueueCall {
  std::string who;  // "": whose the key is
  // Of kLabel:
  int64_t item = 0;
  bool skip = false;
  std::optional<double> value;
  std::string label, comment;
  double seconds = 0;
};
std::optional<Fault> ParseQueue(std::string_view body, QueueAction action, QueueCall* call);

}  // namespace headrace::api
