// A chat template's text and nothing else. llama.cpp renders a template three times for one prompt, the
// second and third time to learn what its answer begins with; here it is rendered once.
#pragma once

#include <memory>
#include <optional>
#include <string>

struct common_chat_templates_inputs;

namespace headrace::model {

class Model;

// What templates know of a vocabulary.
struct TextEnds {
  explicit TextEnds(const Model& model);
  std::string bos, eos;  // "": it has none
  bool add_bos = false, add_eos = false;
};

// For one thread at a time.
class PlainWriter {
 public:
  // `source`: as llama.cpp has it (common_chat_templates_source). Throws what llama.cpp throws.
  PlainWriter(const TextEnds& ends, const std::string& source);
  ~PlainWriter();

  // Whether llama.cpp knows the template by its text: with a parser for it, it changes the messages before
  // they are written (a model's reasoning gets another name, say), and the text that comes out.
  bool has_own_writer() const { return own_writer_; }
  // What common_chat_templates_apply with force_pure_content makes of them; nothing where that would change
  // the messages first. Throws where the template refuses them.
  std::optional<std::string> Write(const common_chat_templates_inputs& inputs) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
  bool own_writer_ = true;
};

}  // namespace headrace::model
