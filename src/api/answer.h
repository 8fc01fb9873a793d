// Answer: from the engine's deltas to what the APIs tell. An Assembler turns one request's pieces of text
// into events (words, reasoning, calls of tools) that only ever add; a Writer says them in a client's format.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/call.h"

namespace headrace::api {

// What was answered to one prompt, once.
struct Choice {
  int index = 0;
  model::Message message;
  std::vector<engine::TokenOut> tokens;
  std::vector<engine::TokenOut> prompt;  // log-probabilities of it, where they were asked for
  std::string prompt_text;               // with echo
  std::vector<model::Token> prompt_tokens;
  engine::Finish finish = engine::Finish::kNone;
  std::string stop;              // the stop string that was met
  model::Token stop_token = -1;  // or token
  engine::Usage usage;           // at the end; before that where it is reported
};

// Something that was added.
struct Event {
  enum class Kind { kText, kReasoning, kCall, kArguments };
  Kind kind = Kind::kText;
  size_t call = 0;   // which of the choice's calls
  std::string text;  // added
};

class Assembler {
 public:
  // `format` may be null: the answer is text.
  Assembler(int index, std::shared_ptr<const model::AnswerFormat> format,
            std::function<std::string()> new_call_id);
  // Takes a delta in. What it added to the choice's message.
  std::vector<Event> Add(engine::Delta&& delta);
  const Choice& choice() const { return choice_; }
  Choice& choice() { return choice_; }

 private:
  void Compare(model::Message now, bool whole, std::vector<Event>* events);

  std::shared_ptr<const model::AnswerFormat> format_;
  std::function<std::string()> new_call_id_;
  std::string text_;
  size_t parsed_ = 0;  // bytes of text_ at the last look
  Choice choice_;
};

// "stop", "length", "tool_calls": OpenAI's words.
std::string FinishReason(const Choice& choice);

}  // namespace headrace::api
