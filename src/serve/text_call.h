// text_call: a call for text as it is read: its fields, the model that it names, its prompts as tokens.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/call.h"
#include "model/chat.h"
#include "serve/models.h"
#include "serve/ticket.h"

namespace headrace::serve {

struct TextCall {
  struct Prompt {
    std::string text;
    engine::Prompt prompt;
  };
  api::Call call;
  Chosen chosen;
  std::vector<Prompt> prompts;                        // at least one
  std::shared_ptr<const model::AnswerFormat> format;  // null: the answer is plain text

  int64_t prompt_tokens() const;
  // The name that answers tell.
  const std::string& model() const { return call.model.empty() ? chosen.served->name : call.model; }
};

// Reads the body of the ticket's request: `text->call` holds the defaults, the dialect and what is wanted.
// `*named`: the language model that it names.
std::optional<api::Fault> ReadTextCall(Ticket* ticket, TextCall* text, Named* named);

// Makes the prompts, once `text->chosen` is there: takes as long as they need to be rendered and cut into
// tokens.
std::optional<api::Fault> MakePrompts(Ticket* ticket, TextCall* text);

// What is settled before it is computed: that it fits, a seed, tokens of words, the meter, what its key may.
std::optional<api::Fault> AdmitTextCall(Ticket* ticket, TextCall* text);

// An engine's error, by the field that it is of.
api::Fault FaultOf(const api::Call& call, const Status& status);

uint64_t RandomSeed();

}  // namespace headrace::serve
