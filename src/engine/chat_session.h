// ChatSession: a model that is open, and how what people say becomes what it reads.
//
//   HEADRACE_ASSIGN(auto session, ChatSession::Open("gemma.gguf", {.chat_template = "gemma"}));
//   Request request;
//   HEADRACE_ASSIGN(ChatPrompt prompt, session->Chat({{"user", "Hello"}}));
//   prompt.MoveInto(&request);
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/prompt.h"
#include "engine/request.h"
#include "model/chat.h"
#include "model/model.h"
#include "model/pair_format.h"

namespace headrace::engine {

struct SessionOptions {
  std::string chat_template;      // for models without one; see ChatTemplate::Make
  bool replace_template = false;  // for those that have one too
  std::vector<std::pair<std::string, std::string>> adapters;  // name, file; of language models
  int32_t context = 0;      // positions that a prompt and its answer may have; 0: kUsualCells at most
  model::LoadOptions load;  // its stop ends the trying of a new file too
};

// What a conversation has become.
struct ChatPrompt {
  std::string text;  // as the template wrote it
  Prompt prompt;
  std::vector<std::string> turn_ends;
  std::shared_ptr<const model::AnswerFormat> format;  // null: the answer is text

  // All but the text and the format.
  void MoveInto(Request* request);
};

// Immutable but for LoadAdapter and AddAdapter; thread-safe but for these.
class ChatSession {
 public:
  // A GGUF file. One that was never tried is tried first, in a process of its own (model/probe.h).
  static Result<std::shared_ptr<ChatSession>> Open(const std::string& path, const SessionOptions& options);

  const model::Model& model() const { return *model_; }
  const std::shared_ptr<model::Model>& shared_model() const { return model_; }
  // Positions that a prompt and its answer may have; of what writes nothing those of a text.
  int32_t context() const { return context_; }
  // Null where there is none; then chat_problem says why.
  const model::ChatTemplate* chat() const { return chat_.get(); }
  const Status& chat_problem() const { return chat_problem_; }
  const std::map<std::string, int>& adapters() const { return adapters_; }
  // As Model::LoadAdapter.
  Result<int> LoadAdapter(const std::string& path, float scale = 1.0F) {
    return model_->LoadAdapter(path, scale);
  }

  // As LoadAdapter; it is one of adapters() then. One of this name is replaced.
  Status AddAdapter(const std::string& name, const std::string& path);

  // A conversation, by the template. Where that knows no tools, earlier calls and what came of them are told
  // in words, whatever `render` offers.
  Result<model::Prompt> Render(std::vector<model::Message> messages,
                               const model::RenderOptions& render = {}) const;
  // What was rendered, cut into tokens.
  Result<ChatPrompt> Cut(model::Prompt rendered) const;
  // Both.
  Result<ChatPrompt> Chat(std::vector<model::Message> messages,
                          const model::RenderOptions& render = {}) const;
  // A text. `special` and `parse` as of Model::Tokenize.
  Result<Prompt> Text(std::string_view text, bool special = true, bool parse = false) const;

  // A query and a document as a reranker reads them: see model::PairFormat::Tokens. Unsupported of others.
  Result<std::vector<Token>> Pair(std::string_view query, std::string_view document,
                                  const model::PairFormat::Room& room) const;

  // A text of so many bytes that it is not cut into tokens to find out how many: a megabyte takes a second.
  // Text and Cut refuse it with the same words. Empty where it may fit.
  struct TooLong {
    std::string why;
    int64_t tokens = 0;   // that it has at least; 0: nobody knows
    int64_t context = 0;  // what the model has; 0 with tokens
  };
  std::optional<TooLong> CannotFit(size_t bytes) const;
  // The first of the tokens that the model has not; below 0: it has all.
  int64_t FirstUnknown(std::span<const Token> tokens) const;

 private:
  ChatSession() = default;

  std::shared_ptr<model::Model> model_;
  std::shared_ptr<const model::ChatTemplate> chat_;
  Status chat_problem_;
  std::shared_ptr<const model::PairFormat> pairs_;  // of rerankers
  std::map<std::string, int> adapters_;
  int32_t context_ = 0;
};

}  // namespace headrace::engine
