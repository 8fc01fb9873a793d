#include "model/plain_writer.h"

#include <chat-auto-parser.h>
#include <chat.h>
#include <common.h>

#include <algorithm>

#include "model/model.h"

namespace headrace::model {
namespace {

std::string NameOf(const llama_vocab* vocabulary, llama_token token) {
  return token == LLAMA_TOKEN_NULL ? "" : common_token_to_piece(vocabulary, token, true);
}

// Templates for which llama.cpp trims the messages, and those that look at its clock's words.
bool LooksBeyond(const std::string& source) {
  for (const char* what :
       {"You have access to the following functions in JSONSchema format", "datetime", "date_string"})
    if (source.find(what) != std::string::npos) return true;
  return false;
}

}  // namespace

TextEnds::TextEnds(const Model& model) {
  const llama_vocab* vocabulary = llama_model_get_vocab(model.handle());
  bos = NameOf(vocabulary, llama_vocab_bos(vocabulary));
  eos = NameOf(vocabulary, llama_vocab_eos(vocabulary));
  add_bos = llama_vocab_get_add_bos(vocabulary);
  add_eos = llama_vocab_get_add_eos(vocabulary);
}

struct PlainWriter::State {
  State(TextEnds of, const std::string& source)
      : ends(std::move(of)),
        chat(source, ends.bos, ends.eos),
        caps(chat.original_caps()),
        beyond(LooksBeyond(source)) {}
  TextEnds ends;
  common_chat_template chat;
  chat_template_caps caps;
  bool beyond;
};

PlainWriter::PlainWriter(const TextEnds& ends, const std::string& source)
    : state_(std::make_unique<State>(ends, source)) {
  autoparser::generation_params inputs;
  common_json message;
  message["role"] = "user";
  message["content"] = "…";
  inputs.messages = common_json::array();
  inputs.messages.push_back(message);
  inputs.extra_context = common_json::object();
  try {
    own_writer_ =
        common_chat_try_specialized_template(state_->chat, state_->chat.source(), inputs).has_value();
  } catch (const std::exception&) {
    own_writer_ = true;  // it is asked for every prompt, and may be right
  }
}

PlainWriter::~PlainWriter() = default;

std::optional<std::string> PlainWriter::Write(const common_chat_templates_inputs& inputs) const {
  const auto changed = [&](const common_chat_msg& message) {
    return !message.tool_calls.empty() || (message.role == "system" && !state_->caps.supports_system_role);
  };
  if (state_->beyond || !inputs.tools.empty() || !inputs.chat_template_kwargs.empty() ||
      std::any_of(inputs.messages.begin(), inputs.messages.end(), changed))
    return std::nullopt;
  autoparser::generation_params params;
  params.messages = common_json::array();
  for (const common_chat_msg& message : inputs.messages)
    params.messages.push_back(message.to_json_oaicompat(false));
  params.enable_thinking = inputs.enable_thinking;
  params.add_generation_prompt = inputs.add_generation_prompt;
  params.add_bos = state_->ends.add_bos;
  params.add_eos = state_->ends.add_eos;
  params.extra_context = common_json::object();
  return common_chat_template_direct_apply(state_->chat, params);
}

}  // namespace headrace::model
