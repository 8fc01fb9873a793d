// Speculate: draft tokens by looking up the last few in what the request has already read or said (prompt
// lookup decoding, Saxena 2023; verified as in Leviathan et al. 2023, arXiv:2211.17192, by sampling each
// position from the model's own distribution and keeping drafts while they agree, so the answer is the same
// with and without).
//
// A draft costs rows: verifying 16 takes five times one row. It is offered only where, by the cost table and
// what was accepted lately, it is expected to pay.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/cost_table.h"
#include "model/decoder.h"

namespace headrace::engine {

using model::Token;

class Lookup {
 public:
  // Reads on: `tokens` is all of the prompt and the answer so far, grown since the last call.
  void Extend(std::span<const Token> tokens);
  // The tokens that followed the latest earlier occurrence of the last few, at most `most`.
  std::vector<Token> Draft(std::span<const Token> tokens, int32_t most) const;

  // How many tokens are worth drafting beside `others`, 0 where none are.
  int32_t Worth(const CostTable& costs, StepShape others, int64_t position, int threads) const;
  // How a draft fared. After one that failed, the next steps in which there would be a draft go without.
  void Verified(int32_t drafted, int32_t accepted);
  bool resting() const { return rest_ > 0; }
  void Rest() { --rest_; }  // such a step

 private:
  static constexpr int kLongest = 3;  // tokens that must agree
  std::vector<std::pair<uint64_t, int32_t>>
      table_;  // open addressing: hash of 3 tokens → position after the latest occurrence
  size_t filled_ = 0;
  int32_t read_ = 0;
  double rate_ = 0.7;  // share of drafted tokens that were accepted, decaying
  int32_t rest_ = 0;   // steps to go without a draft after failures
  int32_t failures_ = 0;
};

}  // namespace headrace::engine
