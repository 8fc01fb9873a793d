// Scores of pairs of texts, as every caller tells them: by a reranker, which reads both texts of a pair at
// once, or by an embedding model, as the cosine of their vectors.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/chat_session.h"
#include "engine/embedder.h"

namespace headrace::engine {

// Two texts, by their places in a list: a query, and a document.
using TextPair = std::pair<size_t, size_t>;

// The score of each pair. `vectors`: of a reranker (`ranked`) a row for each pair, else a row of length 1 for
// each text of the list. A reranker's scores are what its head gives: of a cross-encoder a logit, of Qwen3's
// the probability of "yes".
std::vector<double> PairScores(const Embeddings& vectors, bool ranked, std::span<const TextPair> pairs);

// A query's score with each of these documents, in their order; waits for it. `cut`: documents (for an
// embedding model the query too) that are too long lose their end, else Limit. Unsupported of models that
// write.
Result<std::vector<double>> ScoreDocuments(const ChatSession& session, Embedder* embedder,
                                           const std::string& query,
                                           const std::vector<std::string>& documents, bool cut);

}  // namespace headrace::engine
