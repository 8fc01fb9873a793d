// Sampling: from logits to one token, without sorting a vocabulary of 262,144. The order of the steps is that
// of vLLM and OpenAI's API: grammar mask, logit bias, what may not come, penalties, DRY, temperature, top-k,
// top-p, min-p, XTC.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/dry.h"
#include "model/decoder.h"

namespace headrace::engine {

using model::Token;

struct Sampling {
  float temperature = 1.0F;  // 0: the likeliest token
  int32_t top_k = 0;         // keep the k likeliest, 0: all
  float top_p = 1.0F;        // keep the fewest likeliest whose probabilities reach p (Holtzman et al. 2020)
  float min_p = 0.0F;        // drop those below min_p × the likeliest (Nguyen et al. 2024)
  float repetition_penalty = 1.0F;  // of tokens in the prompt and the answer (Keskar et al. 2019)
  float frequency_penalty = 0.0F;   // per occurrence in the answer (OpenAI)
  float presence_penalty = 0.0F;    // once for every token in the answer (OpenAI)
  std::vector<std::pair<Token, float>> logit_bias;
  Dry dry;
  // "Exclude top choices" (p-e-w 2024; llama.cpp's formulas): with this probability, of the tokens that are
  // likelier than the threshold only the least likely stays. Not at temperature 0.
  float xtc_probability = 0.0F;
  float xtc_threshold = 0.1F;                 // above 0.5: never
  std::vector<std::vector<Token>> bad_words;  // the last token of one may not come after its others (vLLM)
  int32_t min_tokens = 0;   // of the answer; before that none of `held` comes, where anything else may
  std::vector<Token> held;  // ends of an answer: the engine adds the model's own
  uint64_t seed = 0;
  // Names the first field that is out of its range, "" where all is well. NaN is out of every range.
  std::string Problem() const;
};

// The n-th random number of a request, uniform in [0, 1): a function of seed and n alone (SplitMix64), so
// neighbours, preemption and resume do not change it.
double Uniform(uint64_t seed, uint64_t n);

// What a request has said so far, for penalties: counts of tokens.
struct History {
  std::vector<std::pair<Token, int32_t>> answer;  // ascending by token: occurrences in the answer
  std::vector<Token> prompt;                      // ascending, distinct; filled only where a penalty needs it
  std::span<const Token> said;                    // prompt and answer, in order
  size_t begin = 0;                               // of the answer, in `said`
  std::span<const Token> own() const { return said.subspan(std::min(begin, said.size())); }
  void Said(Token token);
};

struct LogProb {
  Token token = 0;
  float logprob = 0;
};

class Sampler {
 public:
  explicit Sampler(int32_t vocabulary);

  // Samples the n-th token of a request. `mask` has a bit per token (1: allowed) or is empty. Returns -1
  // where the mask allows nothing.
  Token Sample(std::span<const float> logits, const Sampling& sampling, const History& history,
               std::span<const int32_t> mask, uint64_t n);

  // The same token as Sample under a mask of what `allows` allows, by asking it for the likeliest ones only:
  // what the others have together bounds how the nucleus can end. kUnresolved where that does not tell (flat
  // distributions, top_k, no top_p).
  static constexpr Token kUnresolved = -2;
  Token SampleAsking(std::span<const float> logits, const Sampling& sampling, const History& history,
                     const std::function<bool(Token)>& allows, uint64_t n);

  // Natural logarithms of the probabilities of the raw logits (before any of the above): of `chosen`, and of
  // the `top` likeliest in descending order.
  static LogProb LogProbability(std::span<const float> logits, Token chosen, int top,
                                std::vector<LogProb>* best);

  // How many candidates the last Sample looked at (what a test of speed asks).
  size_t candidates() const { return candidates_.size(); }

 private:
  // With mask, bias and penalties: `logits`, or work_. `hold`: what min_tokens holds back does not come.
  std::span<const float> Adjust(std::span<const float> logits, const Sampling& sampling,
                                const History& history, std::span<const int32_t> mask, bool hold);
  // XTC: of candidates_ (in proportion to probabilities) that reach the threshold, the least likely stays.
  void ExcludeTop(float threshold);
  // Fills candidates_ with the k largest values, in descending order.
  void Likeliest(std::span<const float> values, size_t k);
  Token AmongNucleus(const Sampling& sampling, double total, uint64_t n);
  Token AmongLikeliest(std::span<const float> values, const Sampling& sampling, float top, float scale,
                       uint64_t n);
  Token Pick(double u) const;                          // of candidates_, by `u` in [0, 1)
  Token Choose(const Sampling& sampling, uint64_t n);  // after XTC, by the n-th random number

  std::vector<float> work_;        // adjusted logits, where they are adjusted
  std::vector<float> terms_;       // e^((logit − top) / temperature)
  std::vector<float> block_sums_;  // of terms_, by blocks
  std::vector<double> masses_;
  std::vector<std::pair<float, Token>> candidates_;
};

// The position of the largest value; the first of equals.
Token ArgMax(std::span<const float> values);

}  // namespace headrace::engine
