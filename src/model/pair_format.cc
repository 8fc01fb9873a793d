#include "model/pair_format.h"

#include <llama.h>

#include <algorithm>

namespace headrace::model {
namespace {

constexpr std::string_view kQuery = "{query}", kDocument = "{document}";

void Append(const std::vector<Token>& more, std::vector<Token>* tokens) {
  tokens->insert(tokens->end(), more.begin(), more.end());
}

// `begin`, of which `kept` tokens stand before the document, and `end`.
Result<std::vector<Token>> Join(const Model& model, std::vector<Token> begin, size_t kept,
                                const std::vector<Token>& end, const PairFormat::Room& room) {
  const auto most = static_cast<size_t>(room.most);
  const size_t whole = begin.size() + end.size();
  const std::string reads = "; " + model.facts().name + " reads at most " + std::to_string(most);
  if (whole > most) {
    if (kept + end.size() >= most)
      return Status::Limit("the query leaves a document no room: with what stands around it, it has " +
                           std::to_string(kept + end.size()) + " tokens" + reads + " of a pair");
    if (!room.cut)
      return Status::Limit("the query and the document have " + std::to_string(whole) + " tokens together" +
                           reads + "; shorten the document, or ask for truncation");
    begin.resize(most - end.size());
  }
  Append(end, &begin);
  return begin;
}

// Text that a template made: all its special tokens are written in it.
Result<std::vector<Token>> Cut(const Model& model, const Marks& marks, const std::string& text) {
  std::vector<Token> tokens;
  for (const PromptPart& part : marks.Parts(text)) {
    HEADRACE_ASSIGN(const std::vector<Token> some, model.Tokenize(part.text, false, part.parse));
    Append(some, &tokens);
  }
  return tokens;
}

}  // namespace

Result<std::shared_ptr<const PairFormat>> PairFormat::Make(const Model& model) {
  std::shared_ptr<PairFormat> format(new PairFormat(model));
  const char* source = llama_model_chat_template(model.handle(), "rerank");
  if (source == nullptr) return std::shared_ptr<const PairFormat>(format);
  const std::string_view text = source;
  const size_t query = text.find(kQuery), document = text.find(kDocument);
  if (query == std::string_view::npos || document == std::string_view::npos || text.rfind(kQuery) != query ||
      text.rfind(kDocument) != document)
    return Status::Unsupported(model.facts().name +
                               "'s rerank template does not name each of {query} and {document} once");
  format->has_template_ = true;
  format->query_first_ = query < document;
  const size_t first = std::min(query, document), second = std::max(query, document);
  const size_t after_first = first + (format->query_first_ ? kQuery : kDocument).size();
  format->begin_ = text.substr(0, first);
  format->between_ = text.substr(after_first, second - after_first);
  format->end_ = text.substr(second + (format->query_first_ ? kDocument : kQuery).size());
  return std::shared_ptr<const PairFormat>(format);
}

Result<std::vector<Token>> PairFormat::Tokens(const Model& model, std::string_view query,
                                              std::string_view document, const Room& room) const {
  return has_template_ ? ByTemplate(model, query, document, room) : Plain(model, query, document, room);
}

Result<std::vector<Token>> PairFormat::Plain(const Model& model, std::string_view query,
                                             std::string_view document, const Room& room) const {
  const llama_vocab* vocabulary = llama_model_get_vocab(model.handle());
  const Token separator = llama_vocab_sep(vocabulary);
  const Token end_token = model.eos() >= 0 ? model.eos() : separator;
  std::vector<Token> begin, end;
  const auto add = [](bool wanted, Token token, std::vector<Token>* to) {
    if (wanted && token >= 0) to->push_back(token);
  };
  add(llama_vocab_get_add_bos(vocabulary), model.bos(), &begin);
  HEADRACE_ASSIGN(const std::vector<Token> asked, model.Tokenize(query, false, false));
  Append(asked, &begin);
  add(llama_vocab_get_add_eos(vocabulary), end_token, &begin);
  add(llama_vocab_get_add_sep(vocabulary), separator, &begin);
  add(llama_vocab_get_add_eos(vocabulary), end_token, &end);
  const size_t kept = begin.size();
  HEADRACE_ASSIGN(const std::vector<Token> read, model.Tokenize(document, false, false));
  Append(read, &begin);
  return Join(model, std::move(begin), kept, end, room);
}

// The whole is cut into tokens at once: blanks before a word belong to its token. Only where it is too long,
// the document and what is before it are cut apart from what is after it.
Result<std::vector<Token>> PairFormat::ByTemplate(const Model& model, std::string_view query,
                                                  std::string_view document, const Room& room) const {
  const std::string asked(query), read(document);
  const Marks marks = Marks::For({&asked, &read});
  const std::string guarded_query = marks.Guard(controls_, asked, false);
  const std::string guarded = marks.Guard(controls_, read, false);
  const std::string before = query_first_ ? begin_ + guarded_query + between_ : begin_;
  const std::string after = query_first_ ? end_ : between_ + guarded_query + end_;
  HEADRACE_ASSIGN(std::vector<Token> whole, Cut(model, marks, before + guarded + after));
  if (whole.size() <= static_cast<size_t>(room.most)) return whole;
  HEADRACE_ASSIGN(std::vector<Token> begin, Cut(model, marks, before + guarded));
  HEADRACE_ASSIGN(const std::vector<Token> kept, Cut(model, marks, before));
  HEADRACE_ASSIGN(const std::vector<Token> end, Cut(model, marks, after));
  return Join(model, std::move(begin), kept.size(), end, room);
}

}  // namespace headrace::model
