#include "model/chat.h"

#include <chat.h>

#include <mutex>

#include "base/hash.h"
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
std::vector<std::string> TurnEnds(const std::string& given) {
  if (given == "chatml") return {"<|im_end|>"};
  if (given == "gemma") return {"<end_of_turn>"};
  if (given == "llama3") return {"<|eot_id|>"};
  if (given == "plain") return {"\nUser:"};
  return {};
}

}  // namespace

struct ChatTemplate::State {
  common_chat_templates_ptr templates;
  std::vector<std::string> turn_ends;
  bool may_think = false;
  std::mutex mutex;
};

namespace {

// llama.cpp's parsers, which it derives from the template.
class TemplateFormat final : public AnswerFormat {
 public:
  explicit TemplateFormat(const common_chat_params& from) : params_(from) {
    params_.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
    if (!from.parser.empty()) params_.parser.load(from.parser);
  }
  Message Parse(const std::string& text, bool whole) const override {
    Message message{"assistant", text};
    try {
      common_chat_msg parsed = common_chat_parse(text, !whole, params_);
      message.content = std::move(parsed.content);
      message.reasoning = std::move(parsed.reasoning_content);
      for (auto& call : parsed.tool_calls)
        message.tool_calls.push_back({std::move(call.id), std::move(call.name), std::move(call.arguments)});
    } catch (const std::exception&) {
      if (!whole) message.content.clear();  // more may make sense of it; a whole answer is given as it is
    }
    return message;
  }

 private:
  common_chat_parser_params params_;
};

common_chat_msg ToCommon(const Message& message) {
  common_chat_msg to;
  to.role = message.role;
  to.content = message.content;
  to.reasoning_content = message.reasoning;
  to.tool_name = message.name;
  to.tool_call_id = message.tool_call_id;
  for (const ToolCall& call : message.tool_calls)
    to.tool_calls.push_back({call.name, call.arguments, call.id});
  return to;
}

}  // namespace

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
  result->state_->turn_ends = TurnEnds(given);
  try {
    result->state_->templates = common_chat_templates_init(model.handle(), source);
  } catch (const std::exception& error) {
    return Status::Invalid(std::string("the chat template cannot be read: ") + error.what());
  }
  const auto caps = common_chat_templates_get_caps(result->state_->templates.get());
  const auto tools = caps.find("supports_tools");
  result->knows_tools_ = tools != caps.end() && tools->second;
  result->state_->may_think = source.find("<think>") != std::string::npos ||
                              common_chat_templates_support_enable_thinking(result->state_->templates.get());
  result->hash_ = Hex64(Xxh3(source));
  return std::shared_ptr<const ChatTemplate>(result);
}

Result<Prompt> ChatTemplate::Render(const std::vector<Message>& messages,
                                    const RenderOptions& options) const {
  if (messages.empty()) return Status::Invalid("there are no messages");
  common_chat_templates_inputs inputs;
  inputs.add_generation_prompt = options.reply;
  if (!options.reply) inputs.continue_final_message = COMMON_CHAT_CONTINUATION_AUTO;
  inputs.enable_thinking = options.think;
  inputs.chat_template_kwargs = options.values;
  for (const Tool& tool : options.tools)
    inputs.tools.push_back({tool.name, tool.description, tool.parameters});
  // To derive a parser takes many renderings: only where there will be something to parse.
  const bool parse = !inputs.tools.empty() || state_->may_think;
  inputs.force_pure_content = !parse;
  inputs.parallel_tool_calls = true;
  if (parse) inputs.reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
  for (const Message& message : messages) inputs.messages.push_back(ToCommon(message));
  const std::lock_guard lock(state_->mutex);
  try {
    common_chat_params params = common_chat_templates_apply(state_->templates.get(), inputs);
    Prompt prompt{std::move(params.prompt), state_->turn_ends, nullptr};
    for (std::string& stop : params.additional_stops) prompt.turn_ends.push_back(std::move(stop));
    if (parse) prompt.format = std::make_shared<TemplateFormat>(params);
    return prompt;
  } catch (const std::exception& error) {
    return Status::Invalid(std::string("the chat template refuses these messages: ") + error.what());
  }
}

}  // namespace headrace::model
