// Chat: from messages to a prompt, by the model's own template (Jinja, as Hugging Face's tokenizers carry
// it), a named one, or one that the user gives.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/marks.h"
#include "model/model.h"

struct common_chat_templates_inputs;

namespace headrace::model {

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON
};

struct Message {
  std::string role;  // "system", "user", "assistant", "tool"
  std::string content;
  std::string reasoning = {};                // of an assistant
  std::vector<ToolCall> tool_calls = {};     // likewise
  std::string name = {}, tool_call_id = {};  // of a tool's answer
};

struct Tool {
  std::string name;
  std::string description;
  std::string parameters;  // JSON schema
  bool strict = false;     // its arguments must match, or the request is refused
  std::string at = {};     // where the request has the schema: "tools[0].function.parameters"
};

// How a template's models write what is more than text: calls of tools, and reasoning.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  // The answer so far, or whole: its content, reasoning and calls. Looks at all of the text.
  virtual Message Parse(const std::string& text, bool whole) const = 0;
};

struct Prompt {
  std::vector<PromptPart> parts;
  std::vector<std::string> turn_ends;  // strings that the format ends a turn with, beside the end tokens
  std::shared_ptr<const AnswerFormat> format;  // null: the answer is text

  std::string text() const;
  Result<std::vector<Token>> Tokenize(const Model& model) const;
};

struct RenderOptions {
  std::vector<Tool> tools;                    // for templates that know tools; see knows_tools()
  std::map<std::string, std::string> values;  // further variables of the template, each as JSON
  bool think = true;                          // where the template lets one choose
  // The prompt goes on with the assistant's turn; false: with the last message's text, or its reasoning where
  // it has no text. An answer's format then tells what is new.
  bool reply = true;
  // Of a reply: the prompt ends with the header of the assistant's turn. Without it the model writes whatever
  // comes after the last turn, headers too, and the answer has no format.
  bool header = true;
  // How the answer will be written is derived, too, which takes as long as dozens of prompts. Without it the
  // prompt is the same; without a header, too, the last turn is written as a later prompt would have it.
  bool format = true;
};

// For templates that know no tools: what was called and what came of it, in words.
void WriteCallsAsText(std::vector<Message>* messages);

class ChatTemplate {
 public:
  // `given`: "" for the model's own template; a name of Names(); or a template's source. A model without one,
  // and nothing given, is an error that says so: a base model is not made to pretend.
  static Result<std::shared_ptr<const ChatTemplate>> Make(const Model& model, const std::string& given);
  static std::vector<std::string> Names();

  // The prompt whose continuation is the assistant's next turn. kInvalid where the template refuses the
  // messages, or leaves out what one of them says. Names of control tokens in the messages' and tools' texts
  // stand for themselves.
  Result<Prompt> Render(const std::vector<Message>& messages, const RenderOptions& options = {}) const;
  const std::string& source() const { return source_; }
  const std::string& hash() const { return hash_; }  // XXH3 of the source, hex
  bool knows_tools() const { return knows_tools_; }

 private:
  struct State;
  std::string Apply(const RenderOptions& options, common_chat_templates_inputs* inputs, Prompt* prompt) const;
  Status Continue(const Message& last, const Marks& marks, bool format, common_chat_templates_inputs* inputs,
                  Prompt* prompt, std::string* text) const;
  std::shared_ptr<State> state_;
  std::string source_, hash_;
  bool knows_tools_ = false;
};

}  // namespace headrace::model
