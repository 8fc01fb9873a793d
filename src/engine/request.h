// What is asked of the engine, and what comes back.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "engine/prompt.h"
#include "engine/sampler.h"

namespace headrace::engine {

// What an answer must look like.
struct Structure {
  enum class Kind {
    kNone,
    kJson,     // any JSON object
    kSchema,   // JSON Schema
    kRegex,    // a regular expression that the whole answer matches
    kGrammar,  // EBNF as XGrammar reads it, root rule "root"
    kTag,      // XGrammar's structural tag: free text with structured parts (tool calls)
  };
  Kind kind = Kind::kNone;
  std::string text;
  bool operator<(const Structure& other) const {
    return kind != other.kind ? kind < other.kind : text < other.text;
  }
};

struct Request {
  static constexpr int32_t kPlainTokens = 256;

  Prompt prompt;  // at least one position
  Sampling sampling;
  int32_t max_tokens = -1;         // of the answer; -1: as many as the context holds
  std::vector<std::string> stops;  // end the answer wherever they come
  std::vector<std::string>
      turn_ends;            // the chat template's: the same as an end token, so only where one may come
  bool ignore_end = false;  // go on after an end token (benchmarks)
  std::vector<Token> stop_tokens;  // end the answer as a stop string does; they are no part of it
  Structure structure;
  int top_logprobs = -1;  // log-probabilities of each token and of so many likeliest; -1: none
  int prompt_logprobs =
      -1;  // the same of the prompt's tokens, from the second on. With max_tokens = 0, that is all
  bool report = false;      // usage comes with each piece
  bool progress = false;    // pieces without text tell how much of the prompt is computed
  int adapter = -1;         // see model::Model::LoadAdapter
  std::string key;          // whose request: fairness is between keys
  std::string scope;        // cached prefixes are shared within a scope
  int priority = 0;         // higher begins earlier
  double timeout = 0;       // seconds from now to the end of the answer, 0: none
  bool interactive = true;  // somebody watches the tokens arrive
  bool reuse = true;        // use cached prefixes and leave one
  bool lookup = true;       // draft by prompt lookup where it pays

  // A plain text that is continued has no end that the model must come to: it gets one where nobody said how
  // long it may be. Whether it did.
  bool EndPlainText() {
    if (max_tokens >= 0 || structure.kind != Structure::Kind::kNone) return false;
    max_tokens = kPlainTokens;
    return true;
  }
};

enum class Finish { kNone, kEnd, kStop, kLength, kCancelled, kTimeout, kError };
std::string_view FinishName(Finish finish);

struct Usage {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;  // of the prompt, not computed for this request
  int32_t answer_tokens = 0;
  int32_t forced_tokens = 0;  // of the answer, given by the grammar without sampling
  int32_t drafted_tokens = 0, accepted_tokens = 0;
  int32_t preemptions = 0;
  double queue_seconds = 0;    // from submission to the first row
  double prefill_seconds = 0;  // to the first token
  double decode_seconds = 0;   // to the last
  double compute_seconds = 0;  // its share of the steps
  double grammar_seconds = 0;  // compiling, before it was queued
};

struct TokenOut {
  Token token = 0;
  float logprob = 0;
  std::vector<LogProb> top;
};

// A piece of the answer, in order; the last one has `finish`.
struct Delta {
  std::string text;
  std::vector<TokenOut> tokens;
  std::vector<TokenOut> prompt;  // of the prompt, in order, where they were asked for
  Finish finish = Finish::kNone;
  std::string stop;        // the stop string that was met
  Token stop_token = -1;   // or the token of Request::stop_tokens
  Status error;            // with kError
  Usage usage;             // with the last; with Request::report, with each
  int32_t processed = -1;  // with Request::progress, before the first token: tokens of the prompt
};

// Called on the compute thread: it must be quick and must not call the engine.
using Sink = std::function<void(Delta&&)>;

}  // namespace headrace::engine
