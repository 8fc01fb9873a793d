// DRY, "don't repeat yourself" (p-e-w 2024; llama.cpp's formulas): a token that would make what was just said
// repeat what was said before loses multiplier × base^(length of the repetition − allowed length). A
// repetition does not reach over a breaker, by default line ends, colons, quotes and asterisks: names in a
// dialogue and keys of JSON may come again.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/vocabulary.h"

namespace headrace::engine {

// Tokens that hold a breaker, or begin one: then what must follow (llama.cpp: "restart sequences").
using DryBreakers = std::unordered_multimap<model::Token, std::vector<model::Token>>;

struct Dry {
  float multiplier = 0;  // 0: none of this
  float base = 1.75F;
  int32_t allowed_length = 2;
  int32_t last_n = 64;  // tokens, of prompt and answer, that are looked at
  std::vector<std::string> breakers = {"\n", ":", "\"", "*"};
  std::shared_ptr<const DryBreakers> tokens;  // of `breakers`: the engine fills it
  bool on() const { return multiplier != 0 && base >= 1 && last_n > 0; }
  std::string Problem() const;
};

// Looks at every token of the vocabulary: milliseconds to tens of them.
DryBreakers FindDryBreakers(const Vocabulary& vocabulary, int32_t size,
                            const std::vector<std::string>& breakers);

// `said`: prompt and answer, in order. Changes `logits` (one for each token).
void PunishRepetition(const Dry& dry, std::span<const model::Token> said, std::span<float> logits);

}  // namespace headrace::engine
