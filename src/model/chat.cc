#include "model/chat.h"

#include <chat.h>

#include <mutex>

#include "base/limits.h"

namespace headrace::model {
namespace {

struct Named {
  const char* name;
  const char* source;
};
// Written after the formats' published descriptions.
constexpr Named kNamed[] = {
    {"chatml",
     "{%- for m in messages -%}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{%- "
     "endfor -%}"
     "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"},
    {"gemma",
     "{{ bos_token }}{%- set lead = namespace(text='') -%}"
     "{%- for m in messages -%}{%- if m['role'] == 'system' -%}{%- set lead.text = m['content'] + '\\n\\n' "
     "-%}{%- else -%}"
     "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\\n' + (lead.text if "
     "m['role'] == 'user' else '') + "
     "m['content'] | trim + '<end_of_turn>\\n' }}{%- if m['role'] == 'user' -%}{%- set lead.text = '' -%}{%- "
     "endif -%}{%- endif -%}"
     "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"},
    {"llama3",
     "{{ bos_token }}{%- for m in messages -%}{{ '<|start_header_id|>' + m['role'] + "
     "'<|end_header_id|>\\n\\n' + m['content'] | trim + "
     "'<|eot_id|>' }}{%- endfor -%}{%- if add_generation_prompt -%}{{ "
     "'<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}"},
    {"plain",
     "{%- for m in messages -%}{%- if m['role'] == 'system' -%}{{ m['content'] + '\\n\\n' }}{%- else -%}"
     "{{ ('Assistant: ' if m['role'] == 'assistant' else 'User: ') + m['content'] + '\\n' }}{%- endif -%}{%- "
     "endfor -%}"
     "{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}"},
};
// What ends a turn where the model's vocabulary has no token for it.
std::vector<std::string> StopsOf(const std::string& given) {
  if (given == "chatml") return {"<|im_end|>"};
  if (given == "gemma") return {"<end_of_turn>"};
  if (given == "llama3") return {"<|eot_id|>"};
  if (given == "plain") return {"\nUser:"};
  return {};
}

}  // namespace

struct ChatTemplate::State {
  common_chat_templates_ptr templates;
  std::vector<std::string> stops;
  std::mutex mutex;
};

std::vector<std::string> ChatTemplate::Names() {
  std::vector<std::string> names;
  for (const Named& named : kNamed) names.emplace_back(named.name);
  return names;
}

Result<std::shared_ptr<const ChatTemplate>> ChatTemplate::Make(const Model& model, const std::string& given) {
  std::string source = given;
  for (const Named& named : kNamed)
    if (given == named.name) source = named.source;
  if (given.empty()) {
    if (!model.facts().has_template)
      return Status::Invalid(model.facts().name +
                             " has no chat template: it is a base model, which continues text. Use `run` or "
                             "completions, or name a "
                             "template (chatml, gemma, llama3, plain) if it was tuned for one");
    source = model.template_source();
  } else if (source == given && given.find('{') == std::string::npos) {
    return Status::NotFound("there is no chat template '" + given +
                            "'; there are chatml, gemma, llama3, plain, or give a template's text");
  }
  if (static_cast<int64_t>(source.size()) > limits::kMaxTemplateBytes)
    return Status::Limit("a chat template of " + std::to_string(source.size()) +
                         " bytes is larger than the limit (kMaxTemplateBytes)");
  auto result = std::make_shared<ChatTemplate>();
  result->source_ = source;
  result->state_ = std::make_shared<State>();
  result->state_->stops = StopsOf(given);
  try {
    result->state_->templates = common_chat_templates_init(model.handle(), source);
  } catch (const std::exception& error) {
    return Status::Invalid(std::string("the chat template cannot be read: ") + error.what());
  }
  return std::shared_ptr<const ChatTemplate>(result);
}

Result<Prompt> ChatTemplate::Render(const std::vector<Message>& messages) const {
  if (messages.empty()) return Status::Invalid("there are no messages");
  common_chat_templates_inputs inputs;
  inputs.force_pure_content = true;
  for (const Message& message : messages) {
    common_chat_msg to;
    to.role = message.role;
    to.content = message.content;
    inputs.messages.push_back(std::move(to));
  }
  const std::lock_guard lock(state_->mutex);
  try {
    common_chat_params params = common_chat_templates_apply(state_->templates.get(), inputs);
    Prompt prompt{std::move(params.prompt), state_->stops};
    for (std::string& stop : params.additional_stops) prompt.stops.push_back(std::move(stop));
    return prompt;
  } catch (const std::exception& error) {
    return Status::Invalid(std::string("the chat template refuses these messages: ") + error.what());
  }
}

}  // namespace headrace::model
