// Chat: from messages to a prompt, by the model's own template (Jinja, as Hugging Face's tokenizers carry
// it), a named one, or one that the user gives.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/model.h"

namespace headrace::model {

struct Message {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
};

struct Prompt {
  std::string text;                // control tokens by name: tokenize with parse = true
  std::vector<std::string> stops;  // strings that the format ends a turn with, beside the end tokens
};

class ChatTemplate {
 public:
  // `given`: "" for the model's own template; a name of Names(); or a template's source. A model without one,
  // and nothing given, is an error that says so: a base model is not made to pretend.
  static Result<std::shared_ptr<const ChatTemplate>> Make(const Model& model, const std::string& given);
  static std::vector<std::string> Names();

  // The prompt whose continuation is the assistant's next turn.
  Result<Prompt> Render(const std::vector<Message>& messages) const;
  const std::string& source() const { return source_; }

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::string source_;
};

}  // namespace headrace::model
