// Decoder: one context of a language model, as the engine sees it: rows in, logits out, and paths of cached
// tokens that can share cells. LlamaDecoder (llama_decoder.h) is the real one; tests have a fake.
//
// A path is one line of tokens 0, 1, 2, … whose keys and values are in the cache. Paths may share cells: a
// prefix is computed once. Paths are numbers in [0, facts().paths); a fresh one is empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace headrace::model {

using Token = int32_t;

struct DecoderFacts {
  int32_t vocabulary = 0;
  int32_t cells = 0;     // tokens that the cache holds, shared prefixes counted once
  int32_t paths = 0;     // distinct paths
  int32_t context = 0;   // tokens of the longest path
  int32_t max_rows = 0;  // rows of one step
  int32_t window = 0;    // sliding window in tokens, 0 where every layer attends to everything
  bool can_truncate =
      true;             // false: recurrent state; a path can be cut only to nothing, shared only at its end
  int32_t threads = 1;  // the most a step may use
  bool unified = true;  // false: every path has cells/paths cells of its own, sharing copies
  bool mixes_adapters = false;  // rows of one step may have different adapters
  int32_t adapters = 1 << 20;   // a row's is below it: those that there were when the context was made
};

struct Row {
  Token token = 0;
  int32_t position = 0;  // consecutive in its path
  int32_t path = 0;
  bool output = false;   // logits are wanted
  int32_t adapter = -1;  // an index that the model gave out; the same for all rows unless the decoder mixes
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  virtual const DecoderFacts& facts() const = 0;

  // Computes the rows in one step. kLimit: there were too few free cells; nothing has changed.
  virtual Status Decode(std::span<const Row> rows, int threads) = 0;
  // Logits of row `index` of the last step, [vocabulary]; that row had `output`. Valid until the next step.
  virtual std::span<const float> Logits(int index) = 0;

  // `to` (empty) begins with the first `length` tokens of `from`, without computing them.
  virtual void Share(int from, int to, int32_t length) = 0;
  // Cuts a path to its first `length` tokens; 0 empties it.
  virtual void Truncate(int path, int32_t length) = 0;
  // The first position of the path whose cells all layers still hold: a prefix of p tokens may be shared only
  // if this is ≤ max(0, p − window).
  virtual int32_t FirstPosition(int path) = 0;

  // A path's cells as bytes in host memory, and back into an empty path.
  virtual Result<std::vector<std::byte>> Save(int path) = 0;
  virtual Status Restore(int path, std::span<const std::byte> bytes) = 0;
};

}  // namespace headrace::model
