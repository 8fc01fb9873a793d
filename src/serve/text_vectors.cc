#include "serve/text_vectors.h"

#include <algorithm>
#include <mutex>

#include "serve/refusal.h"
#include "serve/with_model.h"

namespace headrace::serve {
namespace {

using nlohmann::json;

constexpr size_t kBytesOfToken = 16;  // more than most have
constexpr size_t kCutTokens = 64;     // of the last word of a text that was cut, which might be another

// A model that answers the call: one that embeds, or, where pairs are to be scored, one that ranks.
std::optional<api::Fault> FindEmbedder(const Services& services, const std::string& name, bool pairs,
                                       Named* named) {
  using model::Task;
  *named = pairs ? services.models->Find(name, {Task::kRank, Task::kEmbed})
                 : services.models->Find(name, Task::kEmbed);
  if (!named->backend && name.empty())
    return api::Fault{404, "model_not_found", "model",
                      "there is no embedding model here; there are " + services.models->names()};
  if (!named->backend) return NoSuchModel(services, name);
  const std::string quoted = "'" + named->backend->name() + "'";
  switch (named->backend->task()) {
    case Task::kEmbed:
      return std::nullopt;
    case Task::kRank:
      if (pairs) return std::nullopt;
      return api::Fault{400, "", "model",
                        quoted +
                            " is a reranker: it scores pairs of texts (/v1/rerank, /v1/score), and makes no "
                            "embeddings"};
    case Task::kWrite:
      break;
  }
  return api::Fault{400, "", "model",
                    quoted + " is a language model; " +
                        (pairs ? "texts are ranked by a reranker or an embedding model"
                               : "embeddings come from an embedding model")};
}

// As much of a text as gives more tokens than the model reads, where no more are wanted; of a short one all.
Result<std::string_view> Beginning(const Served& served, std::string_view text) {
  const auto most = static_cast<size_t>(served.model().facts().trained_context);
  for (size_t bytes = most * kBytesOfToken;; bytes *= 4) {
    if (bytes >= text.size()) return text;
    size_t end = bytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // within a character
    const std::string_view some = text.substr(0, end);
    HEADRACE_ASSIGN(const std::vector<model::Token> tokens, served.model().Tokenize(some, false, false));
    if (tokens.size() > most + kCutTokens) return some;
  }
}

std::optional<api::Fault> AddText(const Served& served, const std::string& text, bool special, bool cut,
                                  const std::string& at, std::vector<model::Token>* tokens) {
  if (auto fault = cut ? std::nullopt : CannotFit(served, text.size(), at)) return fault;
  const auto wanted = cut ? Beginning(served, text) : std::string_view(text);
  if (!wanted.ok()) return api::Fault::From(wanted.status());
  const auto made = served.model().Tokenize(*wanted, special, false);
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

// A pair's tokens. Of a query that is too long the fault is the query's; else it is the document's.
std::optional<api::Fault> AddPair(const Served& served, const std::string& query, const std::string& document,
                                  int cut, const engine::TextPair& pair, const PathOf& path,
                                  std::vector<std::vector<model::Token>>* tokens) {
  const engine::ChatSession& session = *served.session;
  const int32_t reads = served.embedder->max_tokens();
  const model::PairFormat::Room room{.most = cut > 0 ? std::min(cut, reads) : reads, .cut = cut != 0};
  // It is cut into tokens with every document.
  if (query.size() > static_cast<size_t>(reads) * kBytesOfToken)
    return api::Fault{400, "context_length_exceeded", path(pair.first),
                      "has " + std::to_string(query.size()) + " bytes: too long for a model that reads " +
                          std::to_string(reads) + " tokens of a pair"};
  if (auto fault = room.cut ? std::nullopt : CannotFit(served, document.size(), path(pair.second)))
    return fault;
  const auto wanted = room.cut ? Beginning(served, document) : std::string_view(document);
  if (!wanted.ok()) return api::Fault::From(wanted.status());
  auto made = session.Pair(query, *wanted, room);
  if (!made.ok()) {
    api::Fault fault = api::Fault::From(made.status());
    if (!made.status().Is(Code::kLimit)) return fault;
    fault.code = "context_length_exceeded";
    fault.param = path(session.Pair(query, "", room).ok() ? pair.second : pair.first);
    return fault;
  }
  tokens->push_back(std::move(*made));
  return std::nullopt;
}

// For a reranker: the call's pairs. Their inputs are texts.
std::optional<api::Fault> TokensOfPairs(const Served& served, const VectorsCall& call,
                                        std::vector<std::vector<model::Token>>* tokens) {
  for (const engine::TextPair& pair : call.pairs)
    if (auto fault =
            AddPair(served, std::get<std::string>(call.inputs[pair.first]),
                    std::get<std::string>(call.inputs[pair.second]), call.cut, pair, call.path, tokens))
      return fault;
  return std::nullopt;
}

// An embedder's error, by the field that it is of.
api::Fault FaultOf(const TokenTexts& texts, const Status& status) {
  if (status.Is(Code::kTimeout)) return DeadlinePassed();
  api::Fault fault = api::Fault::From(status);
  if (!status.Is(Code::kLimit)) return fault;
  const auto most = static_cast<size_t>(texts.served->model().facts().trained_context);
  const auto first = std::find_if(texts.texts.begin(), texts.texts.end(),
                                  [&](const auto& one) { return one.size() > most; });
  fault.code = "context_length_exceeded";
  fault.param = texts.path(first == texts.texts.end() ? 0 : static_cast<size_t>(first - texts.texts.begin()));
  return fault;
}

// A call's texts while they are computed. No thread waits for them: what has come is answered by a worker.
class Vectors final : public std::enable_shared_from_this<Vectors> {
 public:
  Vectors(std::shared_ptr<Ticket> ticket, TokenTexts texts,
          std::function<std::string(engine::Embeddings)> say)
      : ticket_(std::move(ticket)), texts_(std::move(texts)), say_(std::move(say)) {}

  void Begin(int64_t tokens) {
    const std::weak_ptr<Vectors> weak = shared_from_this();
    ticket_->Enter(texts_.served->name, tokens, [weak] {
      if (const auto self = weak.lock()) self->Stop([&] { self->ticket_->Refuse(ShuttingDown()); });
    });
    ticket_->Wait();
    engine::EmbedOptions options;
    options.normalise = !texts_.ranked();
    options.cut = texts_.cut;
    options.key = ticket_->caller().key.id;
    options.timeout = texts_.timeout;
    auto call = texts_.served->embedder->Submit(
        texts_.texts, options,
        [self = shared_from_this()](auto made) mutable { Made(std::move(self), std::move(made)); });
    if (!call.ok()) return (void)ticket_->Refuse(FaultOf(texts_, call.status()));
    {
      const std::lock_guard lock(mutex_);
      call_ = std::move(*call);
    }
    if (ticket_->ended()) return Stop([] {});  // it was stopped meanwhile
    ticket_->exchange()->OnGone([weak] {
      if (const auto self = weak.lock()) self->Stop([&] { self->ticket_->End({.status = 499}); });
    });
  }

 private:
  // On the embedder's thread, which keeps nothing of it: it may be the last to hold the embedder.
  static void Made(std::shared_ptr<Vectors> self, Result<engine::Embeddings> made) {
    Ticket* ticket = self->ticket_.get();
    const auto result = std::make_shared<Result<engine::Embeddings>>(std::move(made));
    if (!ticket->services().workers.TrySubmit([self, result] { self->Answer(std::move(*result)); }))
      ticket->Refuse(ShuttingDown());
  }

  void Answer(Result<engine::Embeddings> made) {
    if (ticket_->ended()) return;
    if (!made.ok()) return (void)ticket_->Refuse(FaultOf(texts_, made.status()));
    Outcome outcome;
    outcome.usage.prompt_tokens = static_cast<int32_t>(made->tokens);
    outcome.usage.queue_seconds = texts_.waited + made->queue_seconds;
    outcome.usage.prefill_seconds = made->compute_seconds;
    ticket_->Answer(say_(std::move(*made)), outcome);
  }

  // Nothing more is computed for it.
  void Stop(const std::function<void()>& end) {
    end();
    std::shared_ptr<engine::Embedder::Call> call;
    {
      const std::lock_guard lock(mutex_);
      call = call_;
    }
    if (call) texts_.served->embedder->Cancel(call);
  }

  const std::shared_ptr<Ticket> ticket_;
  const TokenTexts texts_;
  const std::function<std::string(engine::Embeddings)> say_;
  std::mutex mutex_;
  std::shared_ptr<engine::Embedder::Call> call_;  // null until it is submitted
};

}  // namespace

// The path of an entry of `field`, which holds one text alone or several.
std::string EntryOf(const std::string& field, bool several, size_t i) {
  return several ? field + "[" + std::to_string(i) + "]" : field;
}

void WithTexts(const std::shared_ptr<Ticket>& ticket, VectorsCall call, std::function<void(TokenTexts)> go) {
  const Services& services = ticket->services();
  if (auto fault = UnknownFields(services, call.unknown)) return (void)ticket->Refuse(*fault);
  ticket->Ignore(call.unknown);
  Named named;
  if (auto fault = FindEmbedder(services, call.model, !call.pairs.empty(), &named))
    return (void)ticket->Refuse(*fault);
  const auto asked = std::make_shared<VectorsCall>(std::move(call));
  WithModel(ticket, named, asked->timeout, [ticket, asked, go = std::move(go)](Chosen chosen) {
    TokenTexts texts;
    texts.served = std::move(chosen.served);
    texts.cut = asked->cut;
    texts.path = asked->path;
    texts.waited = chosen.waited;
    if (asked->timeout > 0) {  // it counts on while the model is loaded
      texts.timeout = asked->timeout - chosen.waited;
      if (texts.timeout <= 0) return (void)ticket->Refuse(DeadlinePassed());
    }
    if (texts.ranked() && asked->pairs.empty())  // it was another when its name was looked up
      return (void)ticket->Refuse(api::Fault{400, "", "model", "'" + texts.served->name + "' is a reranker"});
    if (texts.ranked()) texts.path = [asked](size_t i) { return asked->path(asked->pairs[i].second); };
    if (auto fault = texts.ranked()
                         ? TokensOfPairs(*texts.served, *asked, &texts.texts)
                         : TokensOf(*texts.served, asked->inputs, texts.cut != 0, texts.path, &texts.texts))
      return (void)ticket->Refuse(*fault);
    go(std::move(texts));
  });
}

void AnswerWithVectors(std::shared_ptr<Ticket> ticket, TokenTexts texts,
                       std::function<std::string(engine::Embeddings)> say) {
  int64_t count = 0;
  for (const auto& one : texts.texts) count += static_cast<int64_t>(one.size());
  if (const auto fault = ticket->Admit(count)) return (void)ticket->Refuse(*fault);
  json row = {{"model_sha256", texts.served->sha256}};
  ticket->services().recorder->SetText(&row, "input", "prompt_hash", ticket->request().body);
  ticket->Start(texts.served->name, texts.served->name, row);
  std::make_shared<Vectors>(std::move(ticket), std::move(texts), std::move(say))->Begin(count);
}

}  // namespace headrace::serve
