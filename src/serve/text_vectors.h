// text_vectors: texts to vectors by an embedding model, or pairs of them to scores by a reranker, for the
// endpoints that want them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/call.h"
#include "engine/pair_scores.h"
#include "serve/models.h"
#include "serve/ticket.h"

namespace headrace::serve {

// The path of the i-th text of a call.
using PathOf = std::function<std::string(size_t)>;

// The path of an entry of `field`, which holds one text alone or several.
std::string EntryOf(const std::string& field, bool several, size_t i);

// Texts of one call, cut into tokens; where the model is a reranker, its pairs.
struct TokenTexts {
  Lease served;
  std::vector<std::vector<model::Token>> texts;
  int cut = 0;         // as of api::EmbeddingsCall
  double timeout = 0;  // from here on
  double waited = 0;   // seconds, for the model
  PathOf path;

  bool ranked() const { return served->task == model::Task::kRank; }
  // The name that answers tell, where the call said `asked`.
  const std::string& model(const std::string& asked) const { return asked.empty() ? served->name : asked; }
};

// What a call for vectors asks, whatever its endpoint.
struct VectorsCall {
  std::string
      model;  // "" for the first embedding model; where there are pairs, for the first reranker before it
  std::vector<std::string> unknown;  // fields that nothing reads
  std::vector<api::PromptInput> inputs;
  std::vector<engine::TextPair>
      pairs;    // of inputs, that are to be scored; none: vectors of inputs are wanted
  int cut = 0;  // as of api::EmbeddingsCall, as is the next
  double timeout = 0;
  PathOf path;
};

// Finds the call's model, has it loaded, cuts the inputs into its tokens and calls `go`, here or on a worker
// (see WithModel); or refuses.
void WithTexts(const std::shared_ptr<Ticket>& ticket, VectorsCall call, std::function<void(TokenTexts)> go);

// Admits, records and computes, and answers with the body that `say` makes of the vectors (of length 1; a
// reranker's begin with a score, as it is; in the order of the texts), or refuses.
void AnswerWithVectors(std::shared_ptr<Ticket> ticket, TokenTexts texts,
                       std::function<std::string(engine::Embeddings)> say);

}  // namespace headrace::serve
