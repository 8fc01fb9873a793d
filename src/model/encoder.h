// Encoder: texts in, vectors out; one context of an embedding model, or of a reranker, whose texts are pairs
// (pair_format.h) and whose vectors begin with the pair's score.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace headrace::model {

struct EncoderOptions {
  // Tokens of one step; also the longest text, since a text cannot be split. 0: the model's context, from
  // 1,024 to 8,192.
  int32_t max_rows = 0;
  int32_t max_texts = 64;  // of one step
  int32_t threads = 0;     // 0: all cores
};

class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual int32_t width() const = 0;       // numbers of a vector
  virtual int32_t max_tokens() const = 0;  // of one text
  virtual const EncoderOptions& options() const = 0;
  // One step: texts as tokens, in all at most max_rows tokens and max_texts texts. Gives [texts, width],
  // pooled as the model says (mean for MiniLM), not normalised.
  virtual Result<std::vector<float>> Encode(std::span<const std::vector<Token>> texts) = 0;
};

// Works for encoders (BERT), and for language models by pooling their hidden states (mean).
Result<std::unique_ptr<Encoder>> NewEncoder(std::shared_ptr<const Model> model,
                                            const EncoderOptions& options);

}  // namespace headrace::model
