#include "serve/endpoints.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "api/writer.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "serve/chat_prompt.h"
#include "serve/refusal.h"
#include "serve/rows.h"

namespace headrace::serve {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr size_t kBytesOfToken = 16;  // more than most have
constexpr size_t kCutTokens = 64;     // of the last word of a text that was cut, which might be another

std::string Dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

std::optional<api::Fault> FindEmbedder(const Services& services, const std::string& name, Chosen* chosen) {
  *chosen = services.models->Find(name, true);
  if (!chosen->served && name.empty())
    return api::Fault{404, "model_not_found", "model",
                      "there is no embedding model here; there are " + services.models->names()};
  if (!chosen->served) return NoSuchModel(services, name);
  if (!chosen->served->embeds())
    return api::Fault{
        400, "", "model",
        "'" + chosen->served->name + "' is a language model; embeddings come from an embedding model"};
  return std::nullopt;
}

// What an embedding has come to: its row has begun, but whoever answers a fault writes its end.
struct Embedded {
  Allowance allowance;
  bool begun = false;
  engine::Embeddings vectors;
};

api::Fault ShuttingDown() { return {503, "shutting_down", "", "the server is shutting down", 5}; }

// Counts as a request in flight while it lives, so that stopping waits for it; where that takes too long, its
// peer is told at once, and what is still computed is nobody's.
class Embedding {
 public:
  Embedding(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller,
            const std::string& model, int64_t tokens)
      : services_(*services), request_(std::make_shared<InFlight>()) {
    request_->id = caller.request_id;
    request_->endpoint = caller.route;
    request_->model = model;
    request_->key = caller.key.name;
    request_->arrived = caller.arrived;
    request_->prompt_tokens = tokens;
    request_->state = 1;
    request_->end = [exchange, caller, ended = ended_, anthropic = SpeaksAnthropic(exchange->request())] {
      *ended = true;
      exchange->Answer(FaultAnswer(ShuttingDown(), anthropic, caller, {}, {}));
    };
    services_.in_flight.Add(request_);
  }
  ~Embedding() { services_.in_flight.Remove(request_->id); }
  Embedding(const Embedding&) = delete;
  Embedding& operator=(const Embedding&) = delete;
  bool ended() const { return *ended_; }

 private:
  Services& services_;
  std::shared_ptr<InFlight> request_;
  std::shared_ptr<std::atomic<bool>> ended_ = std::make_shared<std::atomic<bool>>(false);
};

// The path of the i-th text of a request.
using PathOf = std::function<std::string(size_t)>;

// The path of an entry of `field`, which holds one text alone or several.
std::string EntryOf(const std::string& field, bool several, size_t i) {
  return several ? field + "[" + std::to_string(i) + "]" : field;
}

// Embeds, with the request's row and figures.
std::optional<api::Fault> Embed(Services* services, const std::shared_ptr<http::Exchange>& exchange,
                                const Caller& caller, const Chosen& chosen,
                                const std::vector<std::vector<model::Token>>& tokens, int cut,
                                const std::string& input, const PathOf& path, Embedded* done) {
  const Served& served = *chosen.served;
  int64_t count = 0;
  for (const auto& one : tokens) count += static_cast<int64_t>(one.size());
  done->allowance = services->meter.Begin(caller.key, count, caller.arrived);
  if (!done->allowance.admitted)
    return api::Fault{429, "rate_limit_exceeded", "", done->allowance.why, done->allowance.retry_after};
  const auto metrics = services->metrics->Request(served.name, caller.route, caller.key.group);
  json row = StartRow(*services, *exchange, caller, served.name);
  row["model_sha256"] = served.sha256;
  services->recorder->SetText(&row, "input", "prompt_hash", input);
  services->recorder->Write(trace::Kind::kStart, row);
  done->begun = true;
  const double before = MonotonicSeconds();
  const Embedding embedding(services, exchange, caller, served.name, count);
  auto made = served.embedder->EmbedTokens(tokens, {.normalise = true, .cut = cut});
  const double now = MonotonicSeconds();
  services->meter.End(caller.key.id, count, made.ok() ? made->tokens : 0);
  if (embedding.ended()) return ShuttingDown();
  if (!made.ok()) {
    api::Fault fault = api::Fault::From(made.status());
    if (made.status().Is(Code::kLimit)) {
      const auto most = static_cast<size_t>(served.model->facts().trained_context);
      const auto first =
          std::find_if(tokens.begin(), tokens.end(), [&](const auto& one) { return one.size() > most; });
      fault.code = "context_length_exceeded";
      fault.param = path(first == tokens.end() ? 0 : static_cast<size_t>(first - tokens.begin()));
    }
    return fault;
  }
  engine::Usage usage;
  usage.prompt_tokens = static_cast<int32_t>(made->tokens);
  services->recorder->Write(trace::Kind::kEnd, {{"id", caller.request_id},
                                                {"ended", caller.Now()},
                                                {"finish", "stop"},
                                                {"status", 200},
                                                {"prompt_tokens", usage.prompt_tokens},
                                                {"prefill_seconds", now - before},
                                                {"total_seconds", now - caller.arrived}});
  metrics->End(200, usage);
  done->vectors = std::move(*made);
  return std::nullopt;
}

// Tokens of a text of which no more than the model reads are wanted: of as much of it as gives more than
// those.
Result<std::vector<model::Token>> Beginning(const Served& served, std::string_view text, bool special) {
  const auto most = static_cast<size_t>(served.model->facts().trained_context);
  for (size_t bytes = most * kBytesOfToken;; bytes *= 4) {
    if (bytes >= text.size()) return served.model->Tokenize(text, special, false);
    size_t end = bytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // within a character
    HEADRACE_ASSIGN(std::vector<model::Token> tokens,
                    served.model->Tokenize(text.substr(0, end), special, false));
    if (tokens.size() > most + kCutTokens) return tokens;
  }
}

std::optional<api::Fault> AddText(const Served& served, const std::string& text, bool special, bool cut,
                                  const std::string& at, std::vector<model::Token>* tokens) {
  if (auto fault = cut ? std::nullopt : CannotFit(served, text.size(), at)) return fault;
  const auto made = cut ? Beginning(served, text, special) : served.model->Tokenize(text, special, false);
  if (!made.ok()) return api::Fault::From(made.status());
  tokens->insert(tokens->end(), made->begin(), made->end());
  return std::nullopt;
}

// Of texts and tokens in a row, only a text that begins it gets the model's special tokens.
std::optional<api::Fault> TokensOf(const Served& served, const std::vector<api::PromptInput>& inputs,
                                   bool cut, const PathOf& path,
                                   std::vector<std::vector<model::Token>>* tokens) {
  for (size_t n = 0; n < inputs.size(); ++n) {
    const std::string at = path(n);
    std::vector<model::Token>& made = tokens->emplace_back();
    if (const auto* text = std::get_if<std::string>(&inputs[n])) {
      if (auto fault = AddText(served, *text, true, cut, at, &made)) return fault;
    } else if (const auto* mixed = std::get_if<api::MixedText>(&inputs[n])) {
      for (size_t i = 0; i < mixed->size(); ++i) {
        const std::string place = at + "[" + std::to_string(i) + "]";
        if (const auto* token = std::get_if<model::Token>(&(*mixed)[i])) {
          if (auto fault = NotTokens(served, {*token}, [&](size_t) { return place; })) return fault;
          made.push_back(*token);
        } else if (auto fault =
                       AddText(served, std::get<std::string>((*mixed)[i]), i == 0, cut, place, &made)) {
          return fault;
        }
      }
    } else {
      made = std::get<std::vector<model::Token>>(inputs[n]);
      if (auto fault = NotTokens(served, made, at)) return fault;
    }
    if (made.empty()) return api::Fault::Field(at, "is empty, and this model has no token for an empty text");
  }
  return std::nullopt;
}

}  // namespace

void Embeddings(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller) {
  api::EmbeddingsCall call;
  Embedded done;
  const auto answer = [&]() -> std::optional<api::Fault> {
    if (auto fault = api::ParseEmbeddings(exchange->request().body, &call)) return fault;
    if (auto fault = UnknownFields(*services, call.unknown)) return fault;
    Chosen chosen;
    if (auto fault = FindEmbedder(*services, call.model, &chosen)) return fault;
    std::vector<std::vector<model::Token>> tokens;
    const auto path = [&](size_t i) { return EntryOf("input", call.listed, i); };
    if (auto fault = TokensOf(*chosen.served, call.inputs, call.cut, path, &tokens)) return fault;
    const int width = chosen.served->embedder->width();
    if (call.dimensions > width)
      return api::Fault::Field("dimensions",
                               "must be at most " + std::to_string(width) + ", what the model gives");
    if (auto fault = Embed(services, exchange, caller, chosen, tokens, call.cut, exchange->request().body,
                           path, &done))
      return fault;
    engine::Embeddings& vectors = done.vectors;
    int wide = width;
    if (call.dimensions > 0 && call.dimensions < width) {  // the first ones, to length 1 again
      wide = call.dimensions;
      std::vector<float> narrow;
      for (size_t i = 0; i < tokens.size(); ++i) {
        const float* from = vectors.values.data() + i * static_cast<size_t>(width);
        double square = 0;
        for (int j = 0; j < wide; ++j) square += double{from[j]} * from[j];
        const double scale = square > 0 ? 1 / std::sqrt(square) : 0;
        for (int j = 0; j < wide; ++j) narrow.push_back(static_cast<float>(from[j] * scale));
      }
      vectors.values = std::move(narrow);
    }
    exchange->Answer({200, AnswerHeaders(caller, done.allowance, call.unknown),
                      api::EmbeddingsBody(call.model.empty() ? chosen.served->name : call.model,
                                          vectors.values, wide, call.base64, vectors.tokens)});
    return std::nullopt;
  };
  if (const auto fault = answer())
    Refuse(services, exchange.get(), caller, *fault, &done.allowance, done.begun);
}

// As vLLM's /score does for embedding models: the cosines of pairs.
void PairScores(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller) {
  api::PairsCall call;
  Embedded done;
  const auto answer = [&]() -> std::optional<api::Fault> {
    if (auto fault = api::ParsePairs(exchange->request().body, &call)) return fault;
    if (auto fault = UnknownFields(*services, call.unknown)) return fault;
    Chosen chosen;
    if (auto fault = FindEmbedder(*services, call.model, &chosen)) return fault;
    std::vector<api::PromptInput> texts(call.first.begin(), call.first.end());
    texts.insert(texts.end(), call.second.begin(), call.second.end());
    std::vector<std::vector<model::Token>> tokens;
    const size_t firsts = call.first.size();
    const auto path = [&](size_t i) {
      return i < firsts ? EntryOf(call.first_at, firsts > 1, i)
                        : EntryOf(call.second_at, call.second.size() > 1, i - firsts);
    };
    if (auto fault = TokensOf(*chosen.served, texts, call.cut, path, &tokens)) return fault;
    if (auto fault = Embed(services, exchange, caller, chosen, tokens, call.cut, exchange->request().body,
                           path, &done))
      return fault;
    const engine::Embeddings& vectors = done.vectors;
    const auto width = static_cast<size_t>(vectors.width);
    ordered_json data = ordered_json::array();
    for (size_t i = 0; i < call.second.size(); ++i) {
      const float* a = vectors.values.data() + (call.first.size() == 1 ? 0 : i) * width;
      const float* b = vectors.values.data() + (call.first.size() + i) * width;
      double dot = 0;
      for (size_t j = 0; j < width; ++j) dot += double{a[j]} * b[j];
      data.push_back({{"index", i}, {"object", "score"}, {"score", dot}});
    }
    exchange->Answer(
        {200, AnswerHeaders(caller, done.allowance, call.unknown),
         Dump({{"id", "score-" + caller.request_id},
               {"object", "list"},
               {"created", caller.arrived_us / 1000000},
               {"model", call.model.empty() ? chosen.served->name : call.model},
               {"data", data},
               {"usage", {{"prompt_tokens", vectors.tokens}, {"total_tokens", vectors.tokens}}}})});
    return std::nullopt;
  };
  if (const auto fault = answer())
    Refuse(services, exchange.get(), caller, *fault, &done.allowance, done.begun);
}

// By the cosine of two embeddings: what a bi-encoder can say.
void Rerank(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller) {
  api::RerankCall call;
  Embedded done;
  const auto answer = [&]() -> std::optional<api::Fault> {
    if (auto fault = api::ParseRerank(exchange->request().body, &call)) return fault;
    if (auto fault = UnknownFields(*services, call.unknown)) return fault;
    Chosen chosen;
    if (auto fault = FindEmbedder(*services, call.model, &chosen)) return fault;
    std::vector<api::PromptInput> texts = {call.query};
    for (const std::string& document : call.documents) texts.emplace_back(document);
    std::vector<std::vector<model::Token>> tokens;
    const auto path = [&](size_t i) {
      return i == 0 ? "query" : EntryOf(call.tei ? "texts" : "documents", true, i - 1);
    };
    if (auto fault = TokensOf(*chosen.served, texts, call.cut != 0, path, &tokens)) return fault;
    if (auto fault = Embed(services, exchange, caller, chosen, tokens, call.cut, exchange->request().body,
                           path, &done))
      return fault;
    const engine::Embeddings& vectors = done.vectors;
    const auto width = static_cast<size_t>(vectors.width);
    std::vector<std::pair<double, size_t>> order;
    for (size_t i = 0; i < call.documents.size(); ++i) {
      double dot = 0;
      for (size_t j = 0; j < width; ++j)
        dot += double{vectors.values[j]} * vectors.values[(i + 1) * width + j];
      order.emplace_back(dot, i);
    }
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    if (call.top_n > 0 && static_cast<size_t>(call.top_n) < order.size())
      order.resize(static_cast<size_t>(call.top_n));
    ordered_json results = ordered_json::array();
    if (call.tei) {  // a list alone
      for (const auto& [score, index] : order) {
        ordered_json one = {{"index", index},
                            {"score", call.raw_scores ? score : 1 / (1 + std::exp(-score))}};
        if (call.return_documents) one["text"] = call.documents[index];
        results.push_back(std::move(one));
      }
      exchange->Answer({200, AnswerHeaders(caller, done.allowance, call.unknown), Dump(results)});
      return std::nullopt;
    }
    for (const auto& [score, index] : order) {
      ordered_json one = {{"index", index}, {"relevance_score", score}};
      if (call.return_documents) one["document"] = {{"text", call.documents[index]}};
      results.push_back(std::move(one));
    }
    exchange->Answer(
        {200, AnswerHeaders(caller, done.allowance, call.unknown),
         Dump({{"id", caller.request_id},
               {"model", call.model.empty() ? chosen.served->name : call.model},
               {"results", results},
               {"usage", {{"prompt_tokens", vectors.tokens}, {"total_tokens", vectors.tokens}}}})});
    return std::nullopt;
  };
  if (const auto fault = answer())
    Refuse(services, exchange.get(), caller, *fault, &done.allowance, done.begun);
}

void Tokenize(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller,
              bool back) {
  api::TokenizeCall call;
  call.render = services->defaults.render;
  const auto answer = [&]() -> std::optional<api::Fault> {
    if (auto fault = api::ParseTokenize(exchange->request().body, back, &call)) return fault;
    Chosen chosen = services->models->Find(call.model, false);
    if (!chosen.served && call.model.empty()) chosen = services->models->Find("", true);
    if (!chosen.served) return NoSuchModel(*services, call.model);
    const Served& served = *chosen.served;
    if (back) {
      if (auto fault = NotTokens(served, call.tokens, std::string("tokens"))) return fault;
      exchange->Answer({200, AnswerHeaders(caller, {}, {}),
                        Dump({{"prompt", served.model->Detokenize(call.tokens)},
                              {"content", served.model->Detokenize(call.tokens)}})});
      return std::nullopt;
    }
    ChatPrompt made;
    if (!call.messages.empty()) {
      if (auto fault = MakeChatPrompt(served, call.messages, call.tools, call.render, &made)) return fault;
    }
    const size_t bytes = call.messages.empty() ? call.text.size() : made.prompt.text().size();
    if (auto fault = CannotFit(served, bytes, call.messages.empty() ? call.text_at : "messages"))
      return fault;
    const auto tokens = call.messages.empty() ? served.model->Tokenize(call.text, call.special, call.parse)
                                              : made.prompt.Tokenize(*served.model);
    if (!tokens.ok()) return api::Fault::From(tokens.status());
    ordered_json body = {{"count", tokens->size()}, {"max_model_len", served.context}, {"tokens", *tokens}};
    if (call.with_pieces) {  // a text where it is one, else bytes
      body["tokens"] = ordered_json::array();
      for (const model::Token token : *tokens) {
        const std::string_view piece = served.model->Piece(token);
        ordered_json told = std::string(piece);
        if (CleanUtf8(piece) != piece) {
          told = ordered_json::array();
          for (const char c : piece) told.push_back(static_cast<int>(static_cast<unsigned char>(c)));
        }
        body["tokens"].push_back({{"id", token}, {"piece", std::move(told)}});
      }
    }
    if (call.pieces) {
      body["token_strs"] = ordered_json::array();
      for (const model::Token token : *tokens) body["token_strs"].push_back(served.model->Piece(token));
    }
    exchange->Answer({200, AnswerHeaders(caller, {}, {}), Dump(body)});
    return std::nullopt;
  };
  if (const auto fault = answer()) Refuse(services, exchange.get(), caller, *fault);
}

void Scores(Services* services, const std::shared_ptr<http::Exchange>& exchange, const Caller& caller) {
  api::ScoreCall call;
  auto fault = api::ParseScore(exchange->request().body, &call);
  if (!fault && !services->recorder->on())
    fault =
        api::Fault{503, "no_catalog", "", "this server has no catalog, so there is nowhere to keep scores"};
  if (fault) return Refuse(services, exchange.get(), caller, *fault);
  call.request = trace::RowIdOf(std::move(call.request));
  json row = {{"request", call.request},
              {"time", NowMicros()},
              {"name", call.name},
              {"source", call.source},
              {"who", call.who.empty() ? caller.key.name : call.who}};
  if (call.value) row["value"] = *call.value;
  if (!call.label.empty()) row["label"] = call.label;
  if (!call.comment.empty()) row["comment"] = call.comment;
  const int64_t dropped = services->recorder->stats().dropped;
  services->recorder->Write(trace::Kind::kScore, row);
  if (services->recorder->stats().dropped > dropped)
    return Refuse(services, exchange.get(), caller,
                  {503, "", "", "the score could not be written: " + services->recorder->stats().trouble, 5});
  exchange->Answer({200, AnswerHeaders(caller, {}, {}),
                    Dump({{"object", "score"}, {"request", call.request}, {"name", call.name}})});
}

std::string TokenizerInfo(const Services& services) {
  ordered_json list = ordered_json::array();
  ordered_json body = {{"object", "list"}};
  for (const auto& served : services.models->all()) {
    const model::Model& model = *served->model;
    if (list.empty()) {  // as vLLM tells it: of the first model
      body["bos_token"] = model.Name(model.bos());
      body["eos_token"] = model.Name(model.eos());
      body["chat_template"] = served->chat ? ordered_json(served->chat->source()) : ordered_json();
    }
    char hash[24];
    std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(model.TokenizerHash()));
    list.push_back(
        {{"model", served->name},
         {"vocabulary", model.facts().vocabulary},
         {"bos", model.bos()},
         {"eos", model.eos()},
         {"ends", model.EndTokens()},
         {"hash", hash},
         {"chat_template", served->chat ? ordered_json(served->chat->source()) : ordered_json()},
         {"chat_template_hash", served->chat ? ordered_json(served->chat->hash()) : ordered_json()}});
  }
  body["data"] = std::move(list);
  return Dump(body);
}

std::string MetricsText(Services* services) {
  std::vector<ModelLoad> models;
  for (const auto& served : services->models->all())
    if (served->engine) models.push_back({served->name, served->engine->stats()});
  return services->metrics->Text(models, services->http->stats(), services->recorder->stats(),
                                 services->models->swaps(), services->clock.jumps());
}

std::string Load(const Services& services) {
  const double now = MonotonicSeconds();
  ordered_json models = ordered_json::array(), requests = ordered_json::array();
  for (const auto& served : services.models->all()) {
    ordered_json one = {{"name", served->name}, {"sha256", served->sha256}, {"bytes", served->bytes}};
    if (served->engine) {
      const engine::CoreStats s = served->engine->stats();
      one.update({{"running", s.running},
                  {"waiting", s.waiting},
                  {"cells", s.cells},
                  {"cells_used", s.cells_used},
                  {"steps", s.steps},
                  {"prompt_tokens", s.prompt_tokens},
                  {"cached_tokens", s.cached_tokens},
                  {"answer_tokens", s.answer_tokens},
                  {"prefill_rows", s.prefill_rows},
                  {"decode_rows", s.decode_rows},
                  {"evictions", s.evictions},
                  {"host_bytes", s.host_bytes},
                  {"preemptions", s.preemptions},
                  {"decode_seconds", s.decode_seconds},
                  {"sample_seconds", s.sample_seconds},
                  {"step_seconds", s.step_seconds}});
    }
    models.push_back(std::move(one));
  }
  static constexpr const char* kStates[] = {"preparing", "waiting", "answering"};
  for (const auto& request : services.in_flight.all())
    requests.push_back({{"id", request->id},
                        {"endpoint", request->endpoint},
                        {"model", request->model},
                        {"key", request->key},
                        {"state", kStates[request->state.load()]},
                        {"seconds", now - request->arrived},
                        {"prompt_tokens", request->prompt_tokens.load()},
                        {"answer_tokens", request->answer_tokens.load()}});
  const http::HttpStats http = services.http->stats();
  const RecorderStats recorder = services.recorder->stats();
  return Dump({{"time", now},
               {"models", models},
               {"requests", requests},
               {"http",
                {{"connections", http.connections},
                 {"accepted", http.accepted},
                 {"hang_ups", http.gone},
                 {"malformed", http.malformed},
                 {"too_slow", http.too_slow}}},
               {"traces",
                {{"written", recorder.written},
                 {"dropped", recorder.dropped},
                 {"committed", recorder.committed},
                 {"trouble", recorder.trouble}}}});
}

std::string Health(const Services& services) {
  const std::string recording = services.recorder->stats().trouble, models = services.models->trouble();
  const std::string keys = services.keys->trouble();
  const bool well = recording.empty() && models.empty() && keys.empty();
  ordered_json body = {{"status", well ? "ok" : "degraded"}};
  if (!keys.empty()) body["keys"] = keys;
  if (!recording.empty()) body["traces"] = recording;
  if (!models.empty()) body["models"] = models;
  if (const std::string jump = services.clock.last(); !jump.empty()) body["clock"] = jump;
  return Dump(body);
}

}  // namespace headrace::serve
