// PairFormat: how a reranker reads a query and a document, as llama.cpp's server writes them: by the model's
// `rerank` template where it has one, else one after the other, with the special tokens that its vocabulary
// wants between and around them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/marks.h"
#include "model/model.h"

namespace headrace::model {

class PairFormat {
 public:
  // Unsupported where the template does not name each of {query} and {document} once.
  static Result<std::shared_ptr<const PairFormat>> Make(const Model& model);

  struct Room {
    int32_t most = 0;  // tokens of a pair
    bool cut = false;  // a document that is too long loses its end
  };
  // Limit where the pair does not fit, or leaves a document that is cut no token. `model` is the one that
  // this was made of.
  Result<std::vector<Token>> Tokens(const Model& model, std::string_view query, std::string_view document,
                                    const Room& room) const;

 private:
  explicit PairFormat(const Model& model) : controls_(model) {}
  Result<std::vector<Token>> Plain(const Model& model, std::string_view query, std::string_view document,
                                   const Room& room) const;
  Result<std::vector<Token>> ByTemplate(const Model& model, std::string_view query, std::string_view document,
                                        const Room& room) const;

  const ControlNames controls_;
  bool has_template_ = false;
  bool query_first_ = true;            // {query} stands before {document}
  std::string begin_, between_, end_;  // of the template
};

}  // namespace headrace::model
