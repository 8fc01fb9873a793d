// text_vectors: texts to vectors by an embedding model, for the endpoints that want them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/call.h"
#include "serve/models.h"
#include "serve/ticket.h"

namespace headrace::serve {

// The path of the i-th text of a call.
using PathOf = std::function<std::string(size_t)>;

// The path of an entry of `field`, which holds one text alone or several.
std::string EntryOf(const std::string& field, bool several, size_t i);

// Texts of one call, cut into tokens.
struct TokenTexts {
  std::shared_ptr<Served> served;
  std::vector<std::vector<model::Token>> texts;
  int cut = 0;  // as of api::EmbeddingsCall
  PathOf path;

  // The name that answers tell, where the call said `asked`.
  const std::string& model(const std::string& asked) const { return asked.empty() ? served->name : asked; }
};

// The embedding model `model` ("" for the first), and its tokens of `inputs`. `unknown`: fields that nothing
// reads.
std::optional<api::Fault> ReadTexts(Ticket* ticket, const std::string& model,
                                    const std::vector<std::string>& unknown,
                                    const std::vector<api::PromptInput>& inputs, int cut, PathOf path,
                                    TokenTexts* texts);

// Admits, records and computes, and answers with the body that `say` makes of the vectors (of length 1, in
// the order of the texts), or refuses.
void AnswerWithVectors(std::shared_ptr<Ticket> ticket, TokenTexts texts,
                       std::function<std::string(engine::Embeddings)> say);

}  // namespace headrace::serve
