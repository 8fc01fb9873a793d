#include "serve/generation.h"

#include <algorithm>
#include <utility>

#include "api/writer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "serve/refusal.h"
#include "serve/rows.h"
#include "serve/text_call.h"
#include "serve/with_model.h"

namespace headrace::serve {
namespace {

using nlohmann::json;

constexpr double kFirstKeepAlive = 2;  // seconds without a word
constexpr double kKeepAliveSeconds = 10;
// About what an answer is as JSON; as much as is made on the network's thread.
constexpr size_t kTokenBytes = 16, kTopBytes = 100, kInlineBytes = 64 << 10;

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

std::string CountBody(api::Dialect dialect, size_t tokens) {
  json body = {{"input_tokens", tokens}};
  if (dialect != api::Dialect::kMessages) body["object"] = "response.input_tokens";
  return body.dump();
}

// The answers of one call. The network's thread owns all of it.
class Generation final : public std::enable_shared_from_this<Generation> {
 public:
  Generation(std::shared_ptr<Ticket> ticket, TextCall text)
      : ticket_(std::move(ticket)),
        exchange_(ticket_->exchange()),
        text_(std::move(text)),
        call_(text_.call) {}

  void Begin() {
    own_ = shared_from_this();  // until the last piece
    writer_ = api::Writer::Make(call_, Head());
    const std::weak_ptr<Generation> weak = shared_from_this();
    const auto stop = [weak, exchange = exchange_] {
      exchange->Post([weak] {
        if (const auto self = weak.lock()) self->Fail(ShuttingDown());
      });
    };
    ticket_->Enter(text_.chosen.served->name, text_.prompt_tokens(), stop);
    if (ticket_->services().stopping) return stop();
    if (auto fault = SubmitAll()) return Fail(*fault);
    ticket_->Wait();
    exchange_->OnGone([weak] {
      if (const auto self = weak.lock()) self->HungUp();
    });
    if (call_.stream) KeepAlive(kFirstKeepAlive);
  }

 private:
  api::Head Head() const {
    const Served& served = *text_.chosen.served;
    api::Head head;
    head.id = PublicId(call_.dialect, ticket_->caller().request_id);
    head.model = text_.model();
    head.created = ticket_->caller().arrived_us / 1000000;
    head.fingerprint = "fp_" + Hex64(Xxh3(served.sha256 + ticket_->services().build)).substr(0, 10);
    head.piece = [session = served.session](model::Token token) { return session->model().Piece(token); };
    return head;
  }

  // Each prompt as often as answers are wanted.
  std::optional<api::Fault> SubmitAll() {
    const auto news = [weak = weak_from_this(), exchange = std::weak_ptr<http::Exchange>(exchange_)] {
      const auto to = exchange.lock();
      if (!to) return;
      to->Post([weak] {
        if (const auto self = weak.lock()) self->Drain();
      });
    };
    for (const TextCall::Prompt& prompt : text_.prompts) {
      for (int i = 0; i < call_.n; ++i) {
        engine::Request request = call_.request;
        request.prompt = prompt.prompt;
        request.sampling.seed += static_cast<uint64_t>(i);
        auto stream = text_.chosen.served->engine->Submit(std::move(request), news);
        usage_.resize(streams_.size());
        if (!stream.ok()) return FaultOf(call_, stream.status());
        assemblers_.emplace_back(static_cast<int>(streams_.size()), text_.format, CallId);
        api::Choice& choice = assemblers_.back().choice();
        if (call_.echo || call_.dialect == api::Dialect::kNative) {
          choice.prompt_text = prompt.text;
          choice.prompt_tokens = prompt.prompt.keys();
        }
        streams_.push_back(std::move(*stream));
      }
    }
    last_token_.assign(streams_.size(), 0);
    usage_.resize(streams_.size());
    return std::nullopt;
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
          Abandon(FaultOf(call_, delta->error));
        } else if (finish == engine::Finish::kTimeout) {
          Abandon(DeadlinePassed());
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
      ticket_->Tokens(static_cast<int64_t>(delta.tokens.size()), now, last_token_[i]);
      last_token_[i] = now;
    }
    const int32_t processed = delta.processed;
    const std::vector<api::Event> events = assembler.Add(std::move(delta));
    if (call_.stream && processed >= 0) {
      if (!begun_) news_ += BeginStream();
      news_ += writer_->Progress(assembler.choice(), processed);
      spoken_ = now;
      if (!ended && fresh == assembler.choice().tokens.size()) return;
    }
    if (call_.stream) {
      std::string text = begun_ ? "" : BeginStream();
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
      self->SayEnd(last);
      self->exchange_->Post([self] { self->Done(); });
    };
    if (size < kInlineBytes || !ticket_->services().workers.TrySubmit(work)) work();
  }

  void SayEnd(const std::string& last) {
    const std::vector<api::Choice> choices = Choices();
    Outcome outcome = OutcomeOf(200, choices);
    const bool keep =
        call_.dialect == api::Dialect::kResponses && call_.store && ticket_->services().recorder->on();
    const std::string whole = !call_.stream || keep ? writer_->Whole(choices) : "";
    if (keep) {
      outcome.row["response"] = whole;
      ticket_->services().responses->Put(ticket_->caller().request_id,
                                         {ticket_->caller().key.id, call_.input, whole});
    }
    if (!call_.stream) {
      ticket_->Answer(whole, outcome);
    } else if (ticket_->End(outcome)) {
      exchange_->End(last + writer_->End(choices));
    }
  }

  std::vector<api::Choice> Choices() const {
    std::vector<api::Choice> choices;
    for (const api::Assembler& assembler : assemblers_) choices.push_back(assembler.choice());
    return choices;
  }

  std::string BeginStream() {
    begun_ = true;
    http::HttpResponse head{200, ticket_->Headers(), "", "text/event-stream; charset=utf-8"};
    head.headers.emplace_back("Cache-Control", "no-cache");
    head.headers.emplace_back("X-Accel-Buffering", "no");  // nginx would gather the events otherwise
    exchange_->Begin(std::move(head));
    return writer_->Begin(text_.prompt_tokens());
  }

  // While nothing is said, a comment from time to time: proxies and clients keep waiting.
  void KeepAlive(double seconds) {
    ticket_->services().http->After(seconds, [weak = std::weak_ptr<Generation>(shared_from_this())] {
      const auto self = weak.lock();
      if (!self) return;
      self->exchange_->Post([self] {
        if (self->over_) return;
        if (MonotonicSeconds() - self->spoken_ > kKeepAliveSeconds * 0.9) {
          std::string text = self->begun_ ? "" : self->BeginStream();
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
    if (ticket_->Refuse(fault, OutcomeOf(fault.status, Choices())) && begun_)
      exchange_->End(std::exchange(news_, {}) + writer_->Error(fault));
    Done();
  }

  // The peer has gone: nobody to tell.
  void Close() {
    if (ticket_->End(OutcomeOf(499, Choices()))) exchange_->End("");
    Done();
  }

  void Done() {
    over_ = true;
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
        u.prompt_tokens = static_cast<int32_t>(text_.prompts[i / static_cast<size_t>(call_.n)].prompt.size());
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

  Outcome OutcomeOf(int status, const std::vector<api::Choice>& choices) const {
    Outcome outcome;
    outcome.status = status;
    outcome.usage = Used();
    outcome.usage.queue_seconds += text_.chosen.waited;
    if (!choices.empty()) outcome.finish = api::FinishReason(choices[0]);
    if (ticket_->services().recorder->on()) outcome.row = AnswersRow(*ticket_->services().recorder, choices);
    return outcome;
  }

  const std::shared_ptr<Ticket> ticket_;
  const std::shared_ptr<http::Exchange> exchange_;
  const TextCall text_;
  const api::Call& call_;

  std::unique_ptr<api::Writer> writer_;
  std::vector<std::shared_ptr<engine::Stream>> streams_;
  std::vector<api::Assembler> assemblers_;
  std::vector<double> last_token_;
  size_t ended_ = 0;
  std::string news_;  // of all its answers, to be sent together
  bool begun_ = false, over_ = false;
  bool abandoned_ = false;           // nothing more is said, see Abandon
  std::optional<api::Fault> fault_;  // … and why; empty: the peer has gone
  double spoken_ = 0;
  std::vector<std::optional<engine::Usage>> usage_;  // of each answer that has ended
  std::shared_ptr<Generation> own_;
};

// With its model: a count or a text at once, else an answer.
void Begin(const std::shared_ptr<Ticket>& ticket, TextCall text, Want want) {
  if (const auto fault = MakePrompts(ticket.get(), &text)) return (void)ticket->Refuse(*fault);
  if (want != Want::kAnswer) {
    const TextCall::Prompt& prompt = text.prompts[0];
    ticket->Answer(want == Want::kPrompt ? "{\"prompt\":" + api::JsonText(prompt.text) + "}"
                                         : CountBody(text.call.dialect, prompt.prompt.size()));
    return;
  }
  if (const auto fault = AdmitTextCall(ticket.get(), &text)) return (void)ticket->Refuse(*fault);
  // The start row is written here: a long prompt is megabytes to write down.
  const Recorder& recorder = *ticket->services().recorder;
  ticket->Start(text.model(), text.chosen.served->name,
                recorder.on() ? TextCallRow(recorder, text.call, text.chosen, text.prompts[0].text) : json());
  const auto generation = std::make_shared<Generation>(ticket, std::move(text));
  // Somebody may have hung up, or a piece may come, at any time from here on.
  ticket->exchange()->Post([generation] { generation->Begin(); });
}

}  // namespace

void Generate(std::shared_ptr<Ticket> ticket, api::Dialect dialect, Want want) {
  const auto text = std::make_shared<TextCall>();
  text->call = ticket->services().defaults;
  text->call.dialect = dialect;
  text->call.count = want != Want::kAnswer;
  Named named;
  if (const auto fault = ReadTextCall(ticket.get(), text.get(), &named)) return (void)ticket->Refuse(*fault);
  WithModel(ticket, named, text->call.request.timeout, [ticket, text, want](Chosen chosen) {
    text->chosen = std::move(chosen);
    Begin(ticket, std::move(*text), want);
  });
}

}  // namespace headrace::serve
