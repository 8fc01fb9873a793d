// Vocabulary: what the engine must know of a tokenizer.
#pragma once

#include <string_view>
#include <vector>

#include "model/decoder.h"

namespace headrace::engine {

class Vocabulary {
 public:
  virtual ~Vocabulary() = default;
  virtual std::string_view Piece(model::Token token) const = 0;
  virtual bool IsEnd(model::Token token) const = 0;
  // Tokens of a text in the middle of an answer (no special tokens).
  virtual std::vector<model::Token> Tokenize(std::string_view text) const = 0;
};

}  // namespace headrace::engine
