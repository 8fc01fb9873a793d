#include "model/chat.h"

#include <chat.h>

#include <mutex>

#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "model/plain_writer.h"

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
     // A system's message stands before the next user's, or as a user's turn where none follows at once.
     "{{ bos_token }}{%- set lead = namespace(text='') -%}"
     "{%- for m in messages -%}"
     "{%- if m['role'] == 'system' -%}{%- set lead.text = lead.text + m['content'] + '\\n\\n' -%}"
     "{%- else -%}"
     "{%- if m['role'] == 'assistant' and lead.text -%}"
     "{{ '<start_of_turn>user\\n' + lead.text | trim + '<end_of_turn>\\n' }}{%- set lead.text = '' -%}{%- "
     "endif -%}"
     "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\\n' + lead.text + "
     "m['content'] | trim + '<end_of_turn>\\n' }}{%- set lead.text = '' -%}"
     "{%- endif -%}{%- endfor -%}"
     "{%- if lead.text -%}{{ '<start_of_turn>user\\n' + lead.text | trim + '<end_of_turn>\\n' }}{%- endif -%}"
     "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"},
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
  std::unique_ptr<const ControlNames> controls;
  bool may_think = false;
  std::unique_ptr<const TextEnds> ends;
  std::unique_ptr<const PlainWriter> plain;  // made when it is first needed
  std::mutex mutex;
};

namespace {

constexpr char kBlanks[] = " \t\r\n";

std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

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

// The format of an answer that goes on with text that stands in the prompt: what is told is what came after
// it.
class ContinuedFormat final : public AnswerFormat {
 public:
  ContinuedFormat(const common_chat_params& from, std::string said, bool reasoning)
      : turn_(from), said_(std::move(said)), reasoning_(reasoning) {
    const std::string opening = Trimmed(from.generation_prompt);
    const bool opened = !from.thinking_start_tag.empty() && opening.ends_with(from.thinking_start_tag);
    if (reasoning && !opened) before_ = from.thinking_start_tag + "\n";
    if (!reasoning && opened && !from.thinking_end_tags.empty()) before_ = from.thinking_end_tags[0] + "\n\n";
    const Message begun = turn_.Parse(before_ + said_, false);
    knows_ = (reasoning ? begun.reasoning : begun.content).find(Trimmed(said_)) != std::string::npos;
  }
  Message Parse(const std::string& text, bool whole) const override {
    if (!knows_) return {"assistant", text};
    Message message = turn_.Parse(before_ + said_ + text, whole);
    if (!reasoning_) message.reasoning.clear();
    std::string& part = reasoning_ ? message.reasoning : message.content;
    const std::string said = Trimmed(said_);  // parsers may leave blanks out at a text's ends
    const size_t at = part.find(said);
    if (at == std::string::npos) {
      part.clear();  // not all of it is told yet
      return message;
    }
    part.erase(0, at + said.size());
    const std::string blanks = said_.substr(said_.find_last_not_of(kBlanks) + 1);
    size_t same = 0;
    while (same < blanks.size() && same < part.size() && part[same] == blanks[same]) ++same;
    part.erase(0, same);
    return message;
  }

 private:
  TemplateFormat turn_;
  std::string before_, said_;
  bool reasoning_;
  bool knows_ = false;  // the format reads such a turn; otherwise what comes is text
};

template <typename Guard>
common_chat_msg ToCommon(const Message& message, const Guard& guard) {
  const bool assistant = message.role == "assistant";
  common_chat_msg to;
  to.role = message.role;
  to.content = guard(message.content, assistant);
  to.reasoning_content = guard(message.reasoning, assistant);
  to.tool_name = guard(message.name, false);
  to.tool_call_id = message.tool_call_id;
  for (const ToolCall& call : message.tool_calls)
    to.tool_calls.push_back({guard(call.name, false), guard(call.arguments, false), call.id});
  return to;
}

// All that a client wrote.
std::vector<const std::string*> TextsOf(const std::vector<Message>& messages,
                                        const std::vector<Tool>& tools) {
  std::vector<const std::string*> texts;
  for (const Message& message : messages) {
    texts.insert(texts.end(), {&message.content, &message.reasoning, &message.name});
    for (const ToolCall& call : message.tool_calls) texts.insert(texts.end(), {&call.name, &call.arguments});
  }
  for (const Tool& tool : tools) texts.insert(texts.end(), {&tool.name, &tool.description, &tool.parameters});
  return texts;
}

// Without what a template may change of a text: blanks, and the marks of JSON.
std::string Bare(const std::string& text) {
  std::string bare;
  for (const char c : text)
    if (std::string_view(" \t\r\n\\\"'").find(c) == std::string_view::npos) bare += c;
  return bare;
}

// Nothing that a client said may vanish. An assistant's turns are not looked at: templates leave reasoning
// out of past ones on purpose.
Status CheckWhole(const std::vector<Message>& messages, const std::string& prompt) {
  std::string bare;
  size_t from = 0;  // messages mostly come in order
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "assistant") continue;
    const std::string said = Trimmed(messages[i].content);
    size_t at = prompt.find(said, from);
    if (at == std::string::npos) at = prompt.find(said);
    if (at != std::string::npos) {
      from = at;
      continue;
    }
    if (bare.empty()) bare = Bare(prompt);
    if (bare.find(Bare(said)) == std::string::npos)
      return Status::Invalid(
          "the chat template leaves out what messages[" + std::to_string(i) + "] (role " + messages[i].role +
          ") says; put it into a user's message, or serve the model with another --chat-template");
  }
  return Status::Ok();
}

}  // namespace

void WriteCallsAsText(std::vector<Message>* messages) {
  const auto quoted = [](const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  for (Message& message : *messages) {
    for (const ToolCall& call : message.tool_calls)
      message.content += (message.content.empty() ? "" : "\n") + std::string("<tool_call>\n{\"name\": ") +
                         quoted(call.name) + ", \"arguments\": " + call.arguments + "}\n</tool_call>";
    message.tool_calls.clear();
    if (message.role == "tool") {
      message.role = "user";
      message.content = "<tool_response>\n" + message.content + "\n</tool_response>";
    }
  }
}

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
  result->state_->controls = std::make_unique<const ControlNames>(model);
  result->state_->ends = std::make_unique<const TextEnds>(model);
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
  const Marks marks = Marks::For(TextsOf(messages, options.tools));
  const auto guard = [&](const std::string& text, bool thinking) {
    return marks.Guard(*state_->controls, text, thinking);
  };
  common_chat_templates_inputs inputs;
  inputs.enable_thinking = options.think;
  inputs.chat_template_kwargs = options.values;
  inputs.parallel_tool_calls = true;
  for (const Tool& tool : options.tools)
    inputs.tools.push_back({tool.name, guard(tool.description, false), guard(tool.parameters, false)});
  for (const Message& message : messages) inputs.messages.push_back(ToCommon(message, guard));
  const std::lock_guard lock(state_->mutex);
  try {
    Prompt prompt{{}, state_->turn_ends, nullptr};
    std::string text;
    if (options.reply) {
      text = Apply(options, &inputs, &prompt);
    } else {
      HEADRACE_TRY(Continue(messages.back(), marks, options.format, &inputs, &prompt, &text));
    }
    prompt.parts = marks.Parts(text);
    HEADRACE_TRY(CheckWhole(messages, prompt.text()));
    return prompt;
  } catch (const std::exception& error) {
    return Status::Invalid(std::string("the chat template refuses these messages: ") + error.what());
  }
}

// The prompt of a new turn, and the format of its answer.
std::string ChatTemplate::Apply(const RenderOptions& options, common_chat_templates_inputs* inputs,
                                Prompt* prompt) const {
  // To derive a parser takes many renderings: only where there will be something to parse, or where with the
  // parser comes another text.
  bool parse = !inputs->tools.empty() || state_->may_think;
  inputs->add_generation_prompt = options.header;
  if (options.format) {
    parse = parse && options.header;
  } else {
    if (!state_->plain)
      state_->plain = std::make_unique<const PlainWriter>(
          *state_->ends, common_chat_templates_source(state_->templates.get()));
    parse = parse && state_->plain->has_own_writer();
    if (!parse)
      if (auto text = state_->plain->Write(*inputs)) return std::move(*text);
  }
  inputs->force_pure_content = !parse;
  if (parse) inputs->reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
  common_chat_params params = common_chat_templates_apply(state_->templates.get(), *inputs);
  for (std::string& stop : params.additional_stops) prompt->turn_ends.push_back(std::move(stop));
  if (parse && options.format) prompt->format = std::make_shared<TemplateFormat>(params);
  return std::move(params.prompt);
}

// The prompt up to the end of the last message's text. The template writes that turn as it writes finished
// ones; a mark at the text's end says where to cut.
Status ChatTemplate::Continue(const Message& last, const Marks& marks, bool format,
                              common_chat_templates_inputs* inputs, Prompt* prompt, std::string* text) const {
  if (!last.tool_calls.empty())
    return Status::Invalid("the last message calls tools: only a message of text can be continued");
  common_chat_msg& final_message = inputs->messages.back();
  const bool reasoning = last.content.empty() && !last.reasoning.empty();
  (reasoning ? final_message.reasoning_content : final_message.content) += marks.tail();
  inputs->add_generation_prompt = false;
  inputs->force_pure_content = true;
  *text = common_chat_templates_apply(state_->templates.get(), *inputs).prompt;
  if (!marks.CutAtTail(text))
    return Status::Invalid(std::string("the chat template leaves out the last message's ") +
                           (reasoning ? "reasoning" : "text") + ": it cannot be continued");
  if (!format || (inputs->tools.empty() && !state_->may_think)) return Status::Ok();
  // The format of a new turn, told that the turn has begun already.
  inputs->messages.pop_back();
  if (inputs->messages.empty())
    inputs->messages.push_back(ToCommon({"user", "…"}, [](const std::string& t, bool) { return t; }));
  inputs->force_pure_content = false;
  inputs->add_generation_prompt = true;
  inputs->reasoning_format = COMMON_REASONING_FORMAT_DEEPSEEK;
  const common_chat_params params = common_chat_templates_apply(state_->templates.get(), *inputs);
  for (const std::string& stop : params.additional_stops) prompt->turn_ends.push_back(stop);
  prompt->format =
      std::make_shared<ContinuedFormat>(params, reasoning ? last.reasoning : last.content, reasoning);
  return Status::Ok();
}

std::string Prompt::text() const {
  std::string all;
  for (const PromptPart& part : parts) all += part.text;
  return all;
}

Result<std::vector<Token>> Prompt::Tokenize(const Model& model) const {
  std::vector<Token> tokens;
  for (size_t i = 0; i < parts.size(); ++i) {
    HEADRACE_ASSIGN(const std::vector<Token> some, model.Tokenize(parts[i].text, i == 0, parts[i].parse));
    tokens.insert(tokens.end(), some.begin(), some.end());
  }
  return tokens;
}

}  // namespace headrace::model
