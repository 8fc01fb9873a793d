// Prompt: what a request gives a model to read: pieces in a row, each tokens, or media that become positions
// of the cache (an image's patches). Cached prefixes are found by keys, one for each position, and the keys
// are made from the pieces: a token's is itself; those of media come from the hash of their content, so that
// two prompts share an image if and only if it is the same. (SGLang pads with values of the image's hash,
// too; vLLM adds the hash to that of the block.)
//
// No model here computes media yet: the engine refuses them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "model/decoder.h"

namespace headrace::engine {

using model::Token;

struct Media {
  std::string content_hash;  // of what the model reads: the decoded media and how they were prepared
  int32_t positions = 0;     // of the cache that they take
};

using PromptPiece = std::variant<std::vector<Token>, Media>;

// The key of a position. Of tokens they are 0 or more. Of media below 0: no token's, whatever the model; the
// first position of each media piece is marked, so that the keys alone say where pieces begin.
inline bool IsMediaKey(Token key) { return key < 0; }

// Of the first `length` keys, as many as may be shared with another prompt that begins alike: media are
// computed whole, so a prefix ends before them or after them.
int32_t WholePieces(std::span<const Token> keys, int32_t length);

class Prompt {
 public:
  Prompt() = default;
  Prompt(std::vector<Token> tokens) { Add(std::move(tokens)); }  // NOLINT: most prompts are tokens alone
  Prompt(std::initializer_list<Token> tokens) : Prompt(std::vector<Token>(tokens)) {}

  void Add(std::vector<Token> tokens);
  void Add(Media media);

  const std::vector<PromptPiece>& pieces() const { return pieces_; }
  // One for each position.
  const std::vector<Token>& keys() const { return keys_; }
  size_t size() const { return keys_.size(); }
  bool empty() const { return keys_.empty(); }

 private:
  std::vector<PromptPiece> pieces_;  // none is empty, no two of tokens are neighbours
  std::vector<Token> keys_;
};

}  // namespace headrace::engine
