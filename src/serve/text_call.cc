#include "serve/text_call.h"

#include <algorithm>
#include <random>

#include "engine/sampling_ranges.h"
#include "serve/chat_prompt.h"
#include "serve/refusal.h"
#include "serve/resolve.h"

namespace headrace::serve {
namespace {

constexpr int64_t kGuessedAnswer = 256;  // tokens, where a call names no limit

// The prompts of a call, one after the other.
class PromptReader {
 public:
  explicit PromptReader(TextCall* text)
      : call_(text->call), served_(*text->chosen.served), prompts_(text->prompts), text_(*text) {}

  std::optional<api::Fault> ReadTexts() {
    for (size_t i = 0; i < call_.prompts.size(); ++i) {
      if (const auto* text = std::get_if<std::string>(&call_.prompts[i])) {
        if (auto fault = Tokenize(*text, call_.special, call_.parse)) return fault;
      } else if (const auto* mixed = std::get_if<api::MixedText>(&call_.prompts[i])) {
        if (auto fault = Join(*mixed)) return fault;
      } else {
        const auto& tokens = std::get<std::vector<model::Token>>(call_.prompts[i]);
        if (auto fault = NotTokens(served_, tokens, At())) return fault;
        prompts_.push_back({served_.model().Detokenize(tokens), tokens});
      }
      if (prompts_.back().prompt.empty())
        return api::Fault::Field(call_.prompts.size() > 1 ? "prompt[" + std::to_string(i) + "]" : "prompt",
                                 "is empty, and this model has no token for an empty text");
    }
    return std::nullopt;
  }

  std::optional<api::Fault> ReadChat() {
    ChatCall made;
    if (auto fault = MakeChatPrompt(served_, call_.messages, call_.tools, call_.render, At(), &made))
      return fault;
    api::ToolPlan& plan = made.plan;
    call_.unknown.insert(call_.unknown.end(), plan.loose.begin(), plan.loose.end());
    prompts_.push_back({std::move(made.prompt.text), std::move(made.prompt.prompt)});
    text_.format = plan.format ? plan.format : made.prompt.format;
    if (plan.structure.kind != engine::Structure::Kind::kNone &&
        call_.request.structure.kind == engine::Structure::Kind::kNone)
      call_.request.structure = plan.structure;
    else if (plan.format && !call_.tools.enforced())
      text_.format = nullptr;  // another structure was asked for: the answer is that
    call_.request.turn_ends = std::move(made.prompt.turn_ends);
    return std::nullopt;
  }

 private:
  // The path of the prompt that is being read.
  std::string At() const {
    const std::string field = api::PromptField(call_.dialect);
    return call_.prompts.size() > 1 ? field + "[" + std::to_string(prompts_.size()) + "]" : field;
  }

  std::optional<api::Fault> Tokenize(const std::string& text, bool special, bool parse) {
    if (auto fault = CannotFit(served_, text.size(), At())) return fault;
    auto prompt = served_.session->Text(text, special, parse);
    if (!prompt.ok()) return FaultOf(call_, prompt.status());
    prompts_.push_back({text, std::move(*prompt)});
    return std::nullopt;
  }

  // Texts and tokens in a row: only a text that begins it gets the token that begins texts.
  std::optional<api::Fault> Join(const api::MixedText& mixed) {
    std::vector<model::Token> all;
    for (size_t i = 0; i < mixed.size(); ++i) {
      if (const auto* text = std::get_if<std::string>(&mixed[i])) {
        if (auto fault = Tokenize(*text, i == 0 && call_.special, call_.parse)) return fault;
        const std::vector<model::Token> tokens = prompts_.back().prompt.keys();
        prompts_.pop_back();
        all.insert(all.end(), tokens.begin(), tokens.end());
      } else {
        all.push_back(std::get<model::Token>(mixed[i]));
      }
    }
    const auto whole = [&](size_t) { return At(); };
    if (auto fault = NotTokens(served_, all, whole)) return fault;
    prompts_.push_back({served_.model().Detokenize(all), all});
    return std::nullopt;
  }

  api::Call& call_;
  const Served& served_;
  std::vector<TextCall::Prompt>& prompts_;
  TextCall& text_;
};

api::Fault TooLong(const TextCall& text, int64_t tokens) {
  const int32_t context = text.chosen.served->session->context();
  api::Fault fault{400, "context_length_exceeded", api::PromptField(text.call.dialect),
                   "this model's context holds " + std::to_string(context) + " tokens, and the prompt has " +
                       std::to_string(tokens) + "; shorten it, or serve the model with a longer --context"};
  fault.prompt_tokens = tokens;
  fault.context = context;
  return fault;
}

std::optional<api::Fault> FindWriter(const Services& services, const std::string& name, Named* named) {
  *named = services.models->Find(name, model::Task::kWrite);
  if (!named->backend) return NoSuchModel(services, name);
  const model::Task task = named->backend->task();
  if (task != model::Task::kWrite)
    return api::Fault{400, "", "model",
                      "'" + named->backend->name() + "' " +
                          (task == model::Task::kRank ? "is a reranker" : "makes embeddings") +
                          "; it writes no text"};
  return std::nullopt;
}

// The deadline counts on while a request waits for its model.
std::optional<api::Fault> CutDeadline(double waited, engine::Request* request) {
  if (request->timeout == 0) return std::nullopt;
  request->timeout -= waited;
  if (request->timeout <= 0) return DeadlinePassed();
  return std::nullopt;
}

// What a key may: whose cache it shares, how urgent it is.
void ApplyKey(const KeyFacts& key, bool any_keys, api::Call* call) {
  call->request.key = key.id;
  // What one key computed, another cannot ask for, nor time: where they do not share by choice.
  call->request.scope = key.cache == "key" ? "key " + key.id : "shared " + key.cache;
  // Without keys, everybody is the owner.
  if (const auto most = static_cast<int>(key.max_priority); call->request.priority > most && any_keys) {
    call->request.priority = most;
    call->unknown.emplace_back("priority");
  }
}

}  // namespace

int64_t TextCall::prompt_tokens() const {
  int64_t sum = 0;
  for (const Prompt& prompt : prompts) sum += static_cast<int64_t>(prompt.prompt.size());
  return sum;
}

uint64_t RandomSeed() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return random();
}

api::Fault FaultOf(const api::Call& call, const Status& status) {
  api::Fault fault = api::Fault::From(status);
  if (fault.code == "context_length_exceeded") fault.param = api::PromptField(call.dialect);
  if (fault.status == 400 && status.ToString().find("schema or grammar") != std::string::npos)
    fault.param = call.structure_at;
  return fault;
}

std::optional<api::Fault> ReadTextCall(Ticket* ticket, TextCall* text, Named* named) {
  Services& services = ticket->services();
  api::Call& call = text->call;
  if (auto fault = api::ParseCall(call.dialect, ticket->request().body, &call)) return fault;
  if (auto fault = UnknownFields(services, call.unknown)) return fault;
  if (call.dialect == api::Dialect::kResponses)
    if (auto fault = GoOn(&services, ticket->caller(), &call)) return fault;
  if (auto fault = FindWriter(services, call.model, named)) return fault;
  if (call.n * std::max<int64_t>(static_cast<int64_t>(call.prompts.size()), 1) > engine::kAnswers.most)
    return api::Fault::Field(
        "n", "asks for more than " + std::to_string(engine::kAnswers.most) + " answers in one call");
  return std::nullopt;
}

std::optional<api::Fault> MakePrompts(Ticket* ticket, TextCall* text) {
  api::Call& call = text->call;
  if (auto fault = CutDeadline(text->chosen.waited, &call.request)) return fault;
  PromptReader reader(text);
  if (auto fault = api::TakesTexts(call.dialect) ? reader.ReadTexts() : reader.ReadChat()) return fault;
  ticket->Ignore(call.unknown);
  return std::nullopt;
}

std::optional<api::Fault> AdmitTextCall(Ticket* ticket, TextCall* text) {
  Services& services = ticket->services();
  api::Call& call = text->call;
  const Served& served = *text->chosen.served;
  int64_t guess = 0;
  for (const TextCall::Prompt& prompt : text->prompts) {
    const auto tokens = static_cast<int64_t>(prompt.prompt.size());
    if (tokens >= served.session->context() && call.request.max_tokens != 0) return TooLong(*text, tokens);
    const int64_t most = call.request.max_tokens >= 0 ? call.request.max_tokens : kGuessedAnswer;
    guess += tokens + call.n * std::clamp<int64_t>(served.session->context() - tokens, 0, most);
  }
  if (auto fault = FindTokens(served, &call)) return fault;
  if (!call.seeded) call.request.sampling.seed = RandomSeed();
  if (auto fault = ticket->Admit(guess)) return fault;
  ApplyKey(ticket->caller().key, !services.keys->empty(), &call);
  call.request.adapter = text->chosen.adapter;
  call.request.interactive = call.stream || call.n == 1;
  call.request.report = call.stream && (call.timings || call.progress);
  call.request.progress = call.stream && call.progress;
  ticket->Ignore(call.unknown);
  return std::nullopt;
}

}  // namespace headrace::serve
