#include "engine/chat_session.h"

#include <algorithm>

#include "model/probe.h"

namespace headrace::engine {
namespace {

// A text whose tokens may be any number is cut up to this length.
constexpr int64_t kMostUnboundedBytes = 1 << 20;

}  // namespace

void ChatPrompt::MoveInto(Request* request) {
  request->prompt = std::move(prompt);
  request->turn_ends = std::move(turn_ends);
}

Result<std::shared_ptr<ChatSession>> ChatSession::Open(const std::string& path,
                                                       const SessionOptions& options) {
  HEADRACE_TRY(model::Probe(path, {.chat_template = options.chat_template, .stop = options.load.stop}));
  std::shared_ptr<ChatSession> session(new ChatSession());
  HEADRACE_ASSIGN(session->model_, model::Model::Load(path, options.load));
  const model::Facts& facts = session->model_->facts();
  if (facts.task() != model::Task::kWrite) {
    session->context_ = facts.trained_context;
    session->chat_problem_ = Status::Unsupported(
        facts.name + (facts.ranks ? " is a reranker" : " is an encoder") + ": it answers nobody");
    if (facts.ranks) {
      HEADRACE_ASSIGN(session->pairs_, model::PairFormat::Make(*session->model_));
    }
    return session;
  }
  const int32_t wanted =
      options.context > 0 ? options.context : std::min(facts.trained_context, model::kUsualCells);
  session->context_ = std::min(wanted, std::max(facts.trained_context, 1));
  for (const auto& [name, file] : options.adapters) HEADRACE_TRY(session->AddAdapter(name, file));
  const bool own = facts.has_template && !options.replace_template;
  auto chat = model::ChatTemplate::Make(*session->model_, own ? "" : options.chat_template);
  if (chat.ok()) {
    session->chat_ = std::move(*chat);
  } else {
    session->chat_problem_ = chat.status();
  }
  return session;
}

Status ChatSession::AddAdapter(const std::string& name, const std::string& path) {
  HEADRACE_ASSIGN(adapters_[name], model_->LoadAdapter(path));
  return Status::Ok();
}

Result<model::Prompt> ChatSession::Render(std::vector<model::Message> messages,
                                          const model::RenderOptions& render) const {
  if (!chat_) return chat_problem_;
  if (!chat_->knows_tools()) model::WriteCallsAsText(&messages);
  return chat_->Render(messages, render);
}

Result<ChatPrompt> ChatSession::Cut(model::Prompt rendered) const {
  ChatPrompt made;
  made.text = rendered.text();
  if (const auto fault = CannotFit(made.text.size())) return Status::Limit(fault->why);
  HEADRACE_ASSIGN(std::vector<Token> tokens, rendered.Tokenize(*model_));
  made.prompt.Add(std::move(tokens));
  made.turn_ends = std::move(rendered.turn_ends);
  made.format = std::move(rendered.format);
  return made;
}

Result<ChatPrompt> ChatSession::Chat(std::vector<model::Message> messages,
                                     const model::RenderOptions& render) const {
  HEADRACE_ASSIGN(model::Prompt rendered, Render(std::move(messages), render));
  return Cut(std::move(rendered));
}

Result<Prompt> ChatSession::Text(std::string_view text, bool special, bool parse) const {
  if (const auto fault = CannotFit(text.size())) return Status::Limit(fault->why);
  HEADRACE_ASSIGN(std::vector<Token> tokens, model_->Tokenize(text, special, parse));
  return Prompt(std::move(tokens));
}

Result<std::vector<Token>> ChatSession::Pair(std::string_view query, std::string_view document,
                                             const model::PairFormat::Room& room) const {
  if (!pairs_) return Status::Unsupported(model_->facts().name + " is no reranker");
  return pairs_->Tokens(*model_, query, document, room);
}

std::optional<ChatSession::TooLong> ChatSession::CannotFit(size_t bytes) const {
  const int64_t fewest = model_->FewestTokens(bytes);
  if (fewest > context_)
    return TooLong{"this model's context holds " + std::to_string(context_) +
                       " tokens, and this text has at least " + std::to_string(fewest) + "; shorten it",
                   fewest, context_};
  // Of some tokenizers a text of any length may be one token.
  if (fewest == 0 && static_cast<int64_t>(bytes) > kMostUnboundedBytes)
    return TooLong{"this text has " + std::to_string(bytes) + " bytes; at most " +
                       std::to_string(kMostUnboundedBytes) + " are cut into tokens for this model",
                   0, 0};
  return std::nullopt;
}

int64_t ChatSession::FirstUnknown(std::span<const Token> tokens) const {
  const auto found = std::find_if(tokens.begin(), tokens.end(), [this](Token token) {
    return token < 0 || token >= model_->facts().vocabulary;
  });
  return found == tokens.end() ? -1 : found - tokens.begin();
}

}  // namespace headrace::engine
