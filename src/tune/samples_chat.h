// Turns of conversations, as the server's prompts have them, and their tokens.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat.h"
#include "model/marks.h"
#include "model/model.h"
#include "tune/samples.h"

namespace headrace::tune {

using Parts = std::vector<model::PromptPart>;

std::string TextOf(const Parts& parts);
// The first `bytes` of a prompt.
Parts Beginning(const Parts& parts, size_t bytes);
// Whether `longer` begins with `shorter`, cut at the same places.
bool Extends(const Parts& longer, const Parts& shorter);
// Without spaces, tabs and ends of lines at either end.
std::string_view Trimmed(std::string_view text);

// A turn that is learned.
struct Turn {
  Parts prompt;  // what the server would give the model to read
  Parts whole;   // with what the model is to write: the answer, and what ends the turn
  // Nothing of the template ends the turn where the server would stop: the end-of-sequence token follows.
  bool open = false;
};

// Thread-safe.
class TurnWriter {
 public:
  static Result<std::unique_ptr<TurnWriter>> Make(std::shared_ptr<const model::Model> model,
                                                  const std::string& chat_template, bool think);
  // The turn of messages[k]. kInvalid where the template refuses the messages, or leaves the turn out.
  Result<Turn> Write(const std::vector<model::Message>& messages, const std::vector<model::Tool>& tools,
                     size_t k) const;

  bool knows_tools() const { return knows_tools_; }
  const std::string& hash() const { return hash_; }

 private:
  using Messages = std::vector<model::Message>;
  // Renders for one conversation, by a template that no other thread uses: one renders for one at a time.
  class Renderer;

  TurnWriter() = default;
  Result<Turn> WriteAnswer(const Renderer& renderer, const Messages& messages, Parts prompt) const;
  // Cuts the turn after what ends it.
  void End(const model::Message& message, Parts rendered, Turn* turn) const;

  std::shared_ptr<const model::Model> model_;
  std::string chat_template_, hash_;
  bool think_ = true, knows_tools_ = false;
  std::vector<std::string> end_names_;  // of tokens at which the server stops
  std::vector<std::string> turn_ends_;  // texts at which it does
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const model::ChatTemplate>> idle_;
};

// Cuts prompts that grow into tokens, each stretch about once.
class GrowingTokens {
 public:
  GrowingTokens(const model::Model& model, const model::ControlNames& names) : model_(model), names_(names) {}

  bool empty() const { return tokens_.empty(); }
  size_t size() const { return tokens_.size(); }
  // Goes on to `prompt`, whose further tokens are read, not learned. False, and nothing is done, where the
  // tokens of `prompt` do not begin with those that there are.
  Result<bool> Read(const Parts& prompt);
  // Goes on to `whole`, whose further tokens are learned. They are those of the whole text where these begin
  // with the prompt's; else those of the further text by itself, as the model would begin it.
  Status Learn(const Parts& whole);
  // One that stands in no prompt.
  void LearnEnd(model::Token end);
  Sample Take();

 private:
  Result<std::optional<std::vector<model::Token>>> Further(const Parts& longer, bool answer);
  Result<std::vector<model::Token>> Alone(const model::PromptPart& part) const;
  void Add(const std::vector<model::Token>& tokens, bool learned);

  const model::Model& model_;
  const model::ControlNames& names_;
  Parts parts_;
  std::vector<int32_t> tokens_;
  std::vector<uint8_t> learn_;
  bool may_grow_ = true;  // the tokens are those of the parts
};

}  // namespace headrace::tune
