#include "serve/ranking.h"

#include <algorithm>
#include <cmath>

#include "api/writer.h"
#include "engine/pair_scores.h"
#include "serve/json_body.h"
#include "serve/text_vectors.h"

namespace headrace::serve {
namespace {

using nlohmann::ordered_json;

ordered_json UsageJson(int64_t tokens) { return {{"prompt_tokens", tokens}, {"total_tokens", tokens}}; }

std::string PairsBody(const Caller& caller, const std::string& model, const std::vector<double>& scores,
                      int64_t tokens) {
  ordered_json data = ordered_json::array();
  for (size_t i = 0; i < scores.size(); ++i)
    data.push_back({{"index", i}, {"object", "score"}, {"score", scores[i]}});
  return Dump({{"id", "score-" + caller.request_id},
               {"object", "list"},
               {"created", caller.arrived_us / 1000000},
               {"model", model},
               {"data", std::move(data)},
               {"usage", UsageJson(tokens)}});
}

// Scores and the documents that they are of, best first, as many as the call wants.
std::vector<std::pair<double, size_t>> BestFirst(const std::vector<double>& scores, int top_n) {
  std::vector<std::pair<double, size_t>> order;
  for (size_t i = 0; i < scores.size(); ++i) order.emplace_back(scores[i], i);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  if (top_n > 0 && static_cast<size_t>(top_n) < order.size()) order.resize(static_cast<size_t>(top_n));
  return order;
}

std::string RerankBody(const Caller& caller, const api::RerankCall& call, const std::string& model,
                       const std::vector<double>& scores, int64_t tokens) {
  ordered_json results = ordered_json::array();
  for (const auto& [score, index] : BestFirst(scores, call.top_n)) {
    ordered_json one = {{"index", index}};
    if (call.tei) {
      one["score"] = call.raw_scores ? score : 1 / (1 + std::exp(-score));
      if (call.return_documents) one["text"] = call.documents[index];
    } else {
      one["relevance_score"] = score;
      if (call.return_documents) one["document"] = {{"text", call.documents[index]}};
    }
    results.push_back(std::move(one));
  }
  if (call.tei) return Dump(results);  // a list alone
  return Dump({{"id", caller.request_id},
               {"model", model},
               {"results", std::move(results)},
               {"usage", UsageJson(tokens)}});
}

}  // namespace

void PairScores(const std::shared_ptr<Ticket>& ticket) {
  const auto call = std::make_shared<api::PairsCall>();
  if (const auto fault = api::ParsePairs(ticket->request().body, call.get()))
    return (void)ticket->Refuse(*fault);
  const size_t firsts = call->first.size();
  VectorsCall asked;
  asked.model = call->model;
  asked.unknown = call->unknown;
  asked.inputs.assign(call->first.begin(), call->first.end());
  asked.inputs.insert(asked.inputs.end(), call->second.begin(), call->second.end());
  for (size_t i = 0; i < call->second.size(); ++i) asked.pairs.emplace_back(firsts == 1 ? 0 : i, firsts + i);
  asked.cut = call->cut;
  asked.timeout = call->timeout;
  asked.path = [call, firsts](size_t i) {
    return i < firsts ? EntryOf(call->first_at, firsts > 1, i)
                      : EntryOf(call->second_at, call->second.size() > 1, i - firsts);
  };
  const std::vector<engine::TextPair> pairs = asked.pairs;
  WithTexts(ticket, std::move(asked), [ticket, call, pairs](TokenTexts texts) {
    const auto say = [caller = ticket->caller(), model = texts.model(call->model), pairs,
                      ranked = texts.ranked()](const engine::Embeddings& vectors) {
      return PairsBody(caller, model, engine::PairScores(vectors, ranked, pairs), vectors.tokens);
    };
    AnswerWithVectors(ticket, std::move(texts), say);
  });
}

void Rerank(const std::shared_ptr<Ticket>& ticket) {
  const auto call = std::make_shared<api::RerankCall>();
  if (const auto fault = api::ParseRerank(ticket->request().body, call.get()))
    return (void)ticket->Refuse(*fault);
  VectorsCall asked;
  asked.model = call->model;
  asked.unknown = call->unknown;
  asked.inputs = {call->query};
  asked.inputs.insert(asked.inputs.end(), call->documents.begin(), call->documents.end());
  for (size_t i = 0; i < call->documents.size(); ++i) asked.pairs.emplace_back(0, i + 1);
  asked.cut = call->cut;
  asked.timeout = call->timeout;
  asked.path = [tei = call->tei](size_t i) {
    return i == 0 ? "query" : EntryOf(tei ? "texts" : "documents", true, i - 1);
  };
  const std::vector<engine::TextPair> pairs = asked.pairs;
  WithTexts(ticket, std::move(asked), [ticket, call, pairs](TokenTexts texts) {
    const auto say = [caller = ticket->caller(), call, model = texts.model(call->model), pairs,
                      ranked = texts.ranked()](const engine::Embeddings& vectors) {
      return RerankBody(caller, *call, model, engine::PairScores(vectors, ranked, pairs), vectors.tokens);
    };
    AnswerWithVectors(ticket, std::move(texts), say);
  });
}

}  // namespace headrace::serve
