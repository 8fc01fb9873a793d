#include "serve/generation.h"

#include <algorithm>
#include <random>

#include "api/writer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "serve/chat_prompt.h"
#include "serve/refusal.h"
#include "serve/resolve.h"
#include "serve/rows.h"

namespace headrace::serve {
namespace {

using nlohmann::json;

constexpr int64_t kGuessedAnswer = 256;  // tokens, where a call names no limit
constexpr double kFirstKeepAlive = 2;    // seconds without a word
constexpr double kKeepAliveSeconds = 10;
constexpr size_t kMostAnswers = 128;  // of one call
// About what an answer is as JSON; as much as is made on the network's thread.
constexpr size_t kTokenBytes = 16, kTopBytes = 100, kInlineBytes = 64 << 10;

uint64_t RandomSeed() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return random();
}

std::string CallId() {
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::string id = "call_";
  for (int i = 0; i < 24; ++i) id += kLetters[RandomSeed() % 36];
  return id;
}

std::string PublicId(api::Dialect dialect, const std::string& id) {
  switch (dialect) {
    case api::Dialect::kChat:
      return "chatcmpl-" + id;
    case api::Dialect::kCompletions:
      return "cmpl-" + id;
    default:
      return id;  // the writers add their own
  }
}

// The network's thread owns all of it once it was submitted.
class Generation final : public std::enable_shared_from_this<Generation> {
 public:
  Generation(Services* services, std::shared_ptr<http::Exchange> exchange, api::Dialect dialect, Want want,
             Caller caller)
      : services_(*services), exchange_(std::move(exchange)), caller_(std::move(caller)) {
    call_ = services_.defaults;
    call_.dialect = dialect;
    call_.count = want != Want::kAnswer;
    show_ = want == Want::kPrompt;
  }

  void Run() {
    if (auto fault = Prepare()) return Refuse(&services_, exchange_.get(), caller_, *fault, &allowance_);
    if (call_.count)
      return exchange_->Answer({200, AnswerHeaders(caller_, allowance_, call_.unknown),
                                show_ ? "{\"prompt\":" + api::JsonText(prompts_[0].text) + "}"
                                      : CountBody(prompts_[0].tokens.size())});
    RecordStart();  // here: a long prompt is megabytes to write down
    // Somebody may have hung up, or a piece may come, at any time from here on.
    exchange_->Post([self = shared_from_this()] { self->Submit(); });
  }

 private:
  std::string CountBody(size_t tokens) const {
    json body = {{"input_tokens", tokens}};
    if (call_.dialect != api::Dialect::kMessages) body["object"] = "response.input_tokens";
    return body.dump();
  }

  struct Prompt {
    std::string text;
    std::vector<model::Token> tokens;
  };

  std::optional<api::Fault> Prepare() {
    const http::HttpRequest& http = exchange_->request();
    if (auto fault = api::ParseCall(call_.dialect, http.body, &call_)) return fault;
    if (auto fault = UnknownFields(services_, call_.unknown)) return fault;
    if (call_.dialect == api::Dialect::kResponses)
      if (auto fault = GoOn(&services_, caller_, &call_)) return fault;
    chosen_ = services_.models->Find(call_.model, false);
    if (!chosen_.served) return NoSuchModel(services_, call_.model);
    const Served& served = *chosen_.served;
    if (served.embeds())
      return api::Fault{400, "", "model", "'" + served.name + "' makes embeddings; it writes no text"};
    if (static_cast<size_t>(call_.n) * std::max<size_t>(call_.prompts.size(), 1) > kMostAnswers)
      return api::Fault::Field("n",
                               "asks for more than " + std::to_string(kMostAnswers) + " answers in one call");
    if (auto fault = api::TakesTexts(call_.dialect) ? RenderTexts() : RenderChat()) return fault;
    if (call_.count) return std::nullopt;
    guessed_ = 0;
    for (const Prompt& prompt : prompts_) {
      const auto tokens = static_cast<int64_t>(prompt.tokens.size());
      if (tokens >= served.context && call_.request.max_tokens != 0) return TooLong(tokens);
      const int64_t most = call_.request.max_tokens >= 0 ? call_.request.max_tokens : kGuessedAnswer;
      guessed_ += tokens + call_.n * std::clamp<int64_t>(served.context - tokens, 0, most);
    }
    if (auto fault = FindTokens(*chosen_.served, &call_)) return fault;
    if (!call_.seeded) call_.request.sampling.seed = RandomSeed();
    allowance_ = services_.meter.Begin(caller_.key, guessed_, caller_.arrived);
    if (!allowance_.admitted)
      return api::Fault{429, "rate_limit_exceeded", "", allowance_.why, allowance_.retry_after};
    admitted_ = true;
    call_.request.key = caller_.key.id;
    call_.request.adapter = chosen_.adapter;
    // What one key computed, another cannot ask for, nor time: where they do not share by choice.
    call_.request.scope =
        caller_.key.cache == "key" ? "key " + caller_.key.id : "shared " + caller_.key.cache;
    // Without keys, everybody is the owner.
    if (const auto most = static_cast<int>(caller_.key.max_priority);
        call_.request.priority > most && !services_.keys->empty()) {
      call_.request.priority = most;
      call_.unknown.emplace_back("priority");
    }
    call_.request.interactive = call_.stream || call_.n == 1;
    call_.request.report = call_.stream && (call_.timings || call_.progress);
    call_.request.progress = call_.stream && call_.progress;
    return std::nullopt;
  }

  api::Fault TooLong(int64_t tokens) const {
    api::Fault fault{400, "context_length_exceeded", api::PromptField(call_.dialect),
                     "this model's context holds " + std::to_string(chosen_.served->context) +
                         " tokens, and the prompt has " + std::to_string(tokens) +
                         "; shorten it, or serve the model with a longer --context"};
    fault.prompt_tokens = tokens;
    fault.context = chosen_.served->context;
    return fault;
  }

  // An engine's error, by the field that it is of.
  api::Fault FaultOf(const Status& status) const {
    api::Fault fault = api::Fault::From(status);
    if (fault.code == "context_length_exceeded") fault.param = api::PromptField(call_.dialect);
    if (fault.status == 400 && status.ToString().find("schema or grammar") != std::string::npos)
      fault.param = call_.structure_at;
    return fault;
  }
  // The path of the prompt that is being read.
  std::string PromptAt() const {
    const std::string field = api::PromptField(call_.dialect);
    return call_.prompts.size() > 1 ? field + "[" + std::to_string(prompts_.size()) + "]" : field;
  }

  std::optional<api::Fault> Tokenize(std::string text, bool special, bool parse) {
    const model::Model& model = *chosen_.served->model;
    if (auto fault = NeverFits(text.size())) return fault;
    auto tokens = model.Tokenize(text, special, parse);
    return Take(std::move(text), std::move(tokens));
  }
  std::optional<api::Fault> Tokenize(const model::Prompt& prompt) {
    std::string text = prompt.text();
    if (auto fault = NeverFits(text.size())) return fault;
    return Take(std::move(text), prompt.Tokenize(*chosen_.served->model));
  }
  std::optional<api::Fault> NeverFits(size_t bytes) const {
    return CannotFit(*chosen_.served, bytes, PromptAt());
  }
  std::optional<api::Fault> Take(std::string text, Result<std::vector<model::Token>> tokens) {
    if (!tokens.ok()) return FaultOf(tokens.status());
    prompts_.push_back({std::move(text), std::move(*tokens)});
    return std::nullopt;
  }

  std::optional<api::Fault> RenderTexts() {
    const model::Model& model = *chosen_.served->model;
    for (size_t i = 0; i < call_.prompts.size(); ++i) {
      if (const auto* text = std::get_if<std::string>(&call_.prompts[i])) {
        if (auto fault = Tokenize(*text, call_.special, call_.parse)) return fault;
      } else if (const auto* mixed = std::get_if<api::MixedText>(&call_.prompts[i])) {
        if (auto fault = Join(*mixed)) return fault;
      } else {
        const auto& tokens = std::get<std::vector<model::Token>>(call_.prompts[i]);
        if (auto fault = NotTokens(*chosen_.served, tokens, PromptAt())) return fault;
        prompts_.push_back({model.Detokenize(tokens), tokens});
      }
      if (prompts_.back().tokens.empty())
        return api::Fault::Field(call_.prompts.size() > 1 ? "prompt[" + std::to_string(i) + "]" : "prompt",
                                 "is empty, and this model has no token for an empty text");
    }
    return std::nullopt;
  }

  // Texts and tokens in a row: only a text that begins it gets the token that begins texts.
  std::optional<api::Fault> Join(const api::MixedText& mixed) {
    const model::Model& model = *chosen_.served->model;
    std::vector<model::Token> all;
    for (size_t i = 0; i < mixed.size(); ++i) {
      if (const auto* text = std::get_if<std::string>(&mixed[i])) {
        if (auto fault = Tokenize(*text, i == 0 && call_.special, call_.parse)) return fault;
        const std::vector<model::Token> tokens = std::move(prompts_.back().tokens);
        prompts_.pop_back();
        all.insert(all.end(), tokens.begin(), tokens.end());
      } else {
        all.push_back(std::get<model::Token>(mixed[i]));
      }
    }
    const auto whole = [&](size_t) { return PromptAt(); };
    if (auto fault = NotTokens(*chosen_.served, all, whole)) return fault;
    prompts_.push_back({model.Detokenize(all), all});
    return std::nullopt;
  }

  std::optional<api::Fault> RenderChat() {
    ChatPrompt made;
    if (auto fault = MakeChatPrompt(*chosen_.served, call_.messages, call_.tools, call_.render, &made))
      return fault;
    api::ToolPlan& plan = made.plan;
    call_.unknown.insert(call_.unknown.end(), plan.loose.begin(), plan.loose.end());
    if (auto fault = Tokenize(made.prompt)) return fault;
    format_ = plan.format ? plan.format : made.prompt.format;
    if (plan.structure.kind != engine::Structure::Kind::kNone &&
        call_.request.structure.kind == engine::Structure::Kind::kNone)
      call_.request.structure = plan.structure;
    else if (plan.format && !call_.tools.enforced())
      format_ = nullptr;  // another structure was asked for: the answer is that
    call_.request.turn_ends = std::move(made.prompt.turn_ends);
    return std::nullopt;
  }

  // ---- on the network's thread from here on

  void Submit() {
    api::Head head;
    head.id = PublicId(call_.dialect, caller_.request_id);
    head.model = call_.model.empty() ? chosen_.served->name : call_.model;
    head.created = caller_.arrived_us / 1000000;
    head.fingerprint = "fp_" + Hex64(Xxh3(chosen_.served->sha256 + services_.build)).substr(0, 10);
    head.piece = [model = chosen_.served->model](model::Token token) { return model->Piece(token); };
    writer_ = api::Writer::Make(call_, std::move(head));
    metrics_ = services_.metrics->Request(chosen_.served->name, caller_.route, caller_.key.group);
    in_flight_ = std::make_shared<InFlight>();
    in_flight_->id = caller_.request_id;
    in_flight_->endpoint = caller_.route;
    in_flight_->model = chosen_.served->name;
    in_flight_->key = caller_.key.name;
    in_flight_->arrived = caller_.arrived;
    const std::weak_ptr<Generation> weak = shared_from_this();
    in_flight_->end = [weak, exchange = exchange_] {
      exchange->Post([weak] {
        if (const auto self = weak.lock())
          self->Fail({503, "shutting_down", "", "the server is shutting down", 5});
      });
    };
    services_.in_flight.Add(in_flight_);
    const auto news = [weak, exchange = std::weak_ptr<http::Exchange>(exchange_)] {
      const auto to = exchange.lock();
      if (!to) return;
      to->Post([weak] {
        if (const auto self = weak.lock()) self->Drain();
      });
    };
    own_ = shared_from_this();  // until the last piece
    if (services_.stopping) return in_flight_->end();
    for (size_t p = 0; p < prompts_.size(); ++p) {
      for (int i = 0; i < call_.n; ++i) {
        engine::Request request = call_.request;
        request.prompt = prompts_[p].tokens;
        request.sampling.seed += static_cast<uint64_t>(i);
        in_flight_->prompt_tokens += i == 0 ? static_cast<int64_t>(request.prompt.size()) : 0;
        auto stream = chosen_.served->engine->Submit(std::move(request), news);
        if (!stream.ok()) {
          usage_.resize(streams_.size());
          return Fail(FaultOf(stream.status()));
        }
        const auto index = static_cast<int>(streams_.size());
        assemblers_.emplace_back(index, format_, CallId);
        api::Choice& choice = assemblers_.back().choice();
        if (call_.echo || call_.dialect == api::Dialect::kNative) {
          choice.prompt_text = prompts_[p].text;
          choice.prompt_tokens = prompts_[p].tokens;
        }
        streams_.push_back(std::move(*stream));
      }
    }
    last_token_.assign(streams_.size(), 0);
    usage_.resize(streams_.size());
    in_flight_->state = 1;
    exchange_->OnGone([weak] {
      if (const auto self = weak.lock()) self->HungUp();
    });
    if (call_.stream) KeepAlive(kFirstKeepAlive);
  }

  void Drain() {
    if (over_) return;
    for (size_t i = 0; i < streams_.size(); ++i) {
      while (auto delta = streams_[i]->TryNext()) {
        const engine::Finish finish = delta->finish;
        if (finish != engine::Finish::kNone) {
          usage_[i] = delta->usage;
          ++ended_;
        }
        if (!delta->error.ok()) {
          Abandon(FaultOf(delta->error));
        } else if (finish == engine::Finish::kTimeout) {
          Abandon(
              api::Fault{408, "deadline", "deadline", "the answer could not be whole before the deadline"});
        } else if (finish == engine::Finish::kCancelled) {
          Abandon(std::nullopt);
        }
        if (abandoned_) {
          (void)assemblers_[i].Add(std::move(*delta));
        } else {
          Take(i, std::move(*delta));
        }
        if (over_) return;
        if (abandoned_ && ended_ == streams_.size()) return fault_ ? Fail(*fault_) : Close();
      }
    }
    if (!news_.empty()) exchange_->Send(std::exchange(news_, {}));
  }

  void Take(size_t i, engine::Delta&& delta) {
    const double now = MonotonicSeconds();
    api::Assembler& assembler = assemblers_[i];
    const size_t fresh = assembler.choice().tokens.size();
    const bool ended = delta.finish != engine::Finish::kNone;
    if (!delta.tokens.empty()) {
      const auto count = static_cast<int64_t>(delta.tokens.size());
      in_flight_->answer_tokens += count;
      in_flight_->state = 2;
      if (last_token_[i] == 0) {
        metrics_->FirstToken(now - caller_.arrived);
        if (first_token_ == 0) first_token_ = now;
      } else {
        metrics_->NextToken((now - last_token_[i]) / static_cast<double>(count));
      }
      last_token_[i] = now;
    }
    const int32_t processed = delta.processed;
    const std::vector<api::Event> events = assembler.Add(std::move(delta));
    if (call_.stream && processed >= 0) {
      if (!begun_) news_ += Begin();
      news_ += writer_->Progress(assembler.choice(), processed);
      spoken_ = now;
      if (!ended && fresh == assembler.choice().tokens.size()) return;
    }
    if (call_.stream) {
      std::string text = begun_ ? "" : Begin();
      text += writer_->Say(assembler.choice(), events, fresh);
      if (ended) text += writer_->EndChoice(assembler.choice());
      if (ended_ < streams_.size()) {
        spoken_ = now;
        news_ += text;
        return;
      }
      return Conclude(std::exchange(news_, {}) + text);
    }
    if (ended_ == streams_.size()) Conclude("");
  }

  // The end of a whole answer, with what is still to be said of it. A large one is put into words by a
  // worker: others have their pieces meanwhile. Nothing else touches this generation then (over_).
  void Conclude(std::string last) {
    over_ = true;
    size_t size = 0;
    for (const api::Assembler& assembler : assemblers_) {
      const api::Choice& choice = assembler.choice();
      size += choice.message.content.size() + choice.message.reasoning.size() + choice.prompt_text.size();
      for (const auto* tokens : {&choice.tokens, &choice.prompt})
        size +=
            tokens->size() * (kTokenBytes + (tokens->empty() ? 0 : kTopBytes * tokens->front().top.size()));
    }
    const auto work = [self = shared_from_this(), last = std::move(last)] {
      const std::vector<api::Choice> choices = self->Choices();
      self->RecordEnd(200, "", choices);
      if (self->call_.stream) {
        self->exchange_->End(last + self->writer_->End(choices));
      } else {
        self->exchange_->Answer({200, AnswerHeaders(self->caller_, self->allowance_, self->call_.unknown),
                                 self->writer_->Whole(choices)});
      }
      self->exchange_->Post([self] { self->Done(200); });
    };
    if (size < kInlineBytes || !services_.workers.TrySubmit(work)) work();
  }

  std::vector<api::Choice> Choices() const {
    std::vector<api::Choice> choices;
    for (const api::Assembler& assembler : assemblers_) choices.push_back(assembler.choice());
    return choices;
  }

  std::string Begin() {
    begun_ = true;
    http::HttpResponse head{200, AnswerHeaders(caller_, allowance_, call_.unknown), "",
                            "text/event-stream; charset=utf-8"};
    head.headers.emplace_back("Cache-Control", "no-cache");
    head.headers.emplace_back("X-Accel-Buffering", "no");  // nginx would gather the events otherwise
    exchange_->Begin(std::move(head));
    int64_t prompt_tokens = 0;
    for (const Prompt& prompt : prompts_) prompt_tokens += static_cast<int64_t>(prompt.tokens.size());
    return writer_->Begin(prompt_tokens);
  }

  // While nothing is said, a comment from time to time: proxies and clients keep waiting.
  void KeepAlive(double seconds) {
    services_.http->After(seconds, [weak = std::weak_ptr<Generation>(shared_from_this())] {
      const auto self = weak.lock();
      if (!self) return;
      self->exchange_->Post([self] {
        if (self->over_) return;
        if (MonotonicSeconds() - self->spoken_ > kKeepAliveSeconds * 0.9) {
          std::string text = self->begun_ ? "" : self->Begin();
          self->exchange_->Send(text + std::string(api::kKeepAlive));
        }
        self->KeepAlive(kKeepAliveSeconds);
      });
    });
  }

  void HungUp() {
    if (!over_) Abandon(std::nullopt);
  }

  // No more is said, but why, if there is somebody to tell it to: once the last piece of every answer has
  // come, with what it cost.
  void Abandon(std::optional<api::Fault> fault) {
    if (!abandoned_) fault_ = std::move(fault);
    abandoned_ = true;
    for (const auto& stream : streams_) stream->Cancel();
  }

  // Instead of an answer, or of its rest, and at once: what has not ended is charged as far as it was read.
  void Fail(const api::Fault& fault) {
    if (over_) return;
    for (const auto& stream : streams_) stream->Cancel();
    RecordEnd(fault.status, fault.message, Choices());
    if (begun_) {
      exchange_->End(std::exchange(news_, {}) + writer_->Error(fault));
    } else {
      exchange_->Answer(
          FaultAnswer(fault, call_.dialect == api::Dialect::kMessages, caller_, allowance_, call_.unknown));
    }
    Done(fault.status);
  }

  // The peer has gone: nobody to tell.
  void Close() {
    RecordEnd(499, "", Choices());
    exchange_->End("");
    Done(499);
  }

  void Done(int status) {
    over_ = true;
    const engine::Usage used = Used();
    metrics_->End(status, used);
    services_.in_flight.Remove(caller_.request_id);
    if (admitted_)
      services_.meter.End(caller_.key.id, guessed_, int64_t{used.prompt_tokens} + used.answer_tokens);
    streams_.clear();
    own_.reset();
  }

  // Of all answers: tokens together (those of a prompt once, however many answers it has: they share its
  // cache), times of the slowest.
  engine::Usage Used() const {
    engine::Usage sum;
    for (size_t i = 0; i < streams_.size(); ++i) {
      engine::Usage u = usage_[i].value_or(engine::Usage());
      if (!usage_[i]) {
        u.prompt_tokens = static_cast<int32_t>(prompts_[i / static_cast<size_t>(call_.n)].tokens.size());
        u.answer_tokens = static_cast<int32_t>(assemblers_[i].choice().tokens.size());
      }
      if (i % static_cast<size_t>(call_.n) == 0) {
        sum.prompt_tokens += u.prompt_tokens;
        sum.cached_tokens += u.cached_tokens;
      }
      sum.answer_tokens += u.answer_tokens;
      sum.forced_tokens += u.forced_tokens;
      sum.preemptions += u.preemptions;
      sum.compute_seconds += u.compute_seconds;
      sum.queue_seconds = std::max(sum.queue_seconds, u.queue_seconds);
      sum.prefill_seconds = std::max(sum.prefill_seconds, u.prefill_seconds);
      sum.decode_seconds = std::max(sum.decode_seconds, u.decode_seconds);
      sum.grammar_seconds = std::max(sum.grammar_seconds, u.grammar_seconds);
    }
    return sum;
  }

  void RecordStart() {
    if (services_.recorder->on())
      services_.recorder->Write(trace::Kind::kStart,
                                StartRow(services_, *exchange_, caller_, call_, chosen_, prompts_[0].text));
  }

  void RecordEnd(int status, const std::string& error, const std::vector<api::Choice>& choices) {
    if (!services_.recorder->on()) return;
    json row = EndRow(*services_.recorder, caller_, status, error, choices, Used(), first_token_);
    if (call_.dialect == api::Dialect::kResponses && call_.store && status == 200) {
      const std::string told = writer_->Whole(choices);
      row["response"] = told;
      services_.responses->Put(caller_.request_id, {caller_.key.id, call_.input, told});
    }
    services_.recorder->Write(trace::Kind::kEnd, row);
  }

  Services& services_;
  std::shared_ptr<http::Exchange> exchange_;
  Caller caller_;
  api::Call call_;
  Chosen chosen_;
  std::vector<Prompt> prompts_;
  std::shared_ptr<const model::AnswerFormat> format_;
  Allowance allowance_;
  bool admitted_ = false, show_ = false;
  int64_t guessed_ = 0;

  std::unique_ptr<api::Writer> writer_;
  std::shared_ptr<RequestMetrics> metrics_;
  std::shared_ptr<InFlight> in_flight_;
  std::vector<std::shared_ptr<engine::Stream>> streams_;
  std::vector<api::Assembler> assemblers_;
  std::vector<double> last_token_;
  size_t ended_ = 0;
  std::string news_;  // of all its answers, to be sent together
  bool begun_ = false, over_ = false;
  bool abandoned_ = false;           // nothing more is said, see Abandon
  std::optional<api::Fault> fault_;  // … and why; empty: the peer has gone
  double first_token_ = 0, spoken_ = 0;
  std::vector<std::optional<engine::Usage>> usage_;  // of each answer that has ended
  std::shared_ptr<Generation> own_;
};

}  // namespace

void Generate(Services* services, std::shared_ptr<http::Exchange> exchange, api::Dialect dialect, Want want,
              Caller caller) {
  std::make_shared<Generation>(services, std::move(exchange), dialect, want, std::move(caller))->Run();
}

}  // namespace headrace::serve
