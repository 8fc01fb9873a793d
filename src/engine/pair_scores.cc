#include "engine/pair_scores.h"

namespace headrace::engine {
namespace {

// Of vectors of length 1: what a bi-encoder can say of two texts.
double Cosine(const Embeddings& vectors, const TextPair& pair) {
  const auto width = static_cast<size_t>(vectors.width);
  double dot = 0;
  for (size_t j = 0; j < width; ++j)
    dot += double{vectors.values[pair.first * width + j]} * vectors.values[pair.second * width + j];
  return dot;
}

}  // namespace

std::vector<double> PairScores(const Embeddings& vectors, bool ranked, std::span<const TextPair> pairs) {
  std::vector<double> scores;
  scores.reserve(pairs.size());
  for (size_t i = 0; i < pairs.size(); ++i)
    scores.push_back(ranked ? double{vectors.values[i * static_cast<size_t>(vectors.width)]}
                            : Cosine(vectors, pairs[i]));
  return scores;
}

Result<std::vector<double>> ScoreDocuments(const ChatSession& session, Embedder* embedder,
                                           const std::string& query,
                                           const std::vector<std::string>& documents, bool cut) {
  const model::Facts& facts = session.model().facts();
  if (facts.task() == model::Task::kWrite)
    return Status::Unsupported(facts.name +
                               " is a language model; texts are ranked by a reranker or an embedding model");
  const bool ranked = facts.ranks;
  std::vector<TextPair> pairs;
  std::vector<std::vector<Token>> texts;
  const auto add = [&](const std::string& text) -> Status {
    HEADRACE_ASSIGN(std::vector<Token> tokens, session.model().Tokenize(text, true, false));
    texts.push_back(std::move(tokens));
    return Status::Ok();
  };
  if (!ranked) HEADRACE_TRY(add(query));
  for (const std::string& document : documents) {
    if (ranked) {
      HEADRACE_ASSIGN(std::vector<Token> pair,
                      session.Pair(query, document, {.most = embedder->max_tokens(), .cut = cut}));
      texts.push_back(std::move(pair));
    } else {
      HEADRACE_TRY(add(document));
    }
    pairs.emplace_back(0, pairs.size() + 1);
  }
  HEADRACE_ASSIGN(const Embeddings vectors,
                  embedder->EmbedTokens(std::move(texts), {.normalise = !ranked, .cut = cut ? -1 : 0}));
  return PairScores(vectors, ranked, pairs);
}

}  // namespace headrace::engine
