// Turns a row's text into token ids while streaming. A model's tokenizer is one
// (python/native/tokenizer.h carries it here): this folder knows of no models.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::stream {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // The same text always gives the same tokens. Called by many threads at once.
  virtual Result<std::vector<int32_t>> Tokenize(std::string_view text) const = 0;
  // Of what it gives: a state of a stream with another tokenizer is refused.
  virtual uint64_t hash() const = 0;
};

}  // namespace headrace::stream
