#include "tune/samples_chat.h"

#include <algorithm>

#include "base/utf8.h"

namespace headrace::tune {
namespace {

using model::Token;

// The tag that closes the thought with whose opening tag the text ends ("…<think>\n"); "" where none does.
std::string ClosingTag(std::string_view text) {
  text = Trimmed(text);
  if (text.empty() || (text.back() != '>' && text.back() != ']')) return "";
  const char opens = text.back() == '>' ? '<' : '[';
  const size_t at = text.rfind(opens);
  if (at == std::string_view::npos) return "";
  const std::string_view name = text.substr(at + 1, text.size() - at - 2);
  const std::string lower = AsciiLower(name);
  if (name.starts_with('/') ||
      (lower.find("think") == std::string::npos && lower.find("thought") == std::string::npos &&
       lower.find("reason") == std::string::npos))
    return "";
  return std::string(1, opens) + "/" + std::string(name) + text.back();
}

// Where the first of the names that stand for tokens ends, at `from` or later; npos: nowhere.
size_t EndOfName(const Parts& parts, const std::vector<std::string>& names, size_t from) {
  size_t base = 0;
  for (const model::PromptPart& part : parts) {
    size_t first = std::string::npos, end = 0;
    for (const std::string& name : names) {
      if (!part.parse || name.empty()) continue;
      const size_t at = part.text.find(name, from > base ? from - base : 0);
      if (at < first || (at == first && at != std::string::npos && at + name.size() > end)) {
        first = at;
        end = at + name.size();
      }
    }
    if (first != std::string::npos) return base + end;
    base += part.text.size();
  }
  return std::string::npos;
}

void AppendPart(Parts* parts, std::string_view text, bool parse) {
  if (text.empty()) return;
  if (!parts->empty() && parts->back().parse && parse) {
    parts->back().text += text;
  } else {
    parts->push_back({std::string(text), parse});
  }
}

// The parts from byte `from` on, behind others.
void AppendFrom(Parts* to, const Parts& parts, size_t from) {
  size_t base = 0;
  for (const model::PromptPart& part : parts) {
    const size_t skip = std::min(from > base ? from - base : 0, part.text.size());
    AppendPart(to, std::string_view(part.text).substr(skip), part.parse);
    base += part.text.size();
  }
}

bool BeginsWith(const std::vector<Token>& all, const std::vector<Token>& some) {
  return some.size() <= all.size() && std::equal(some.begin(), some.end(), all.begin());
}

}  // namespace

std::string TextOf(const Parts& parts) {
  std::string text;
  for (const model::PromptPart& part : parts) text += part.text;
  return text;
}

Parts Beginning(const Parts& parts, size_t bytes) {
  Parts some;
  for (const model::PromptPart& part : parts) {
    if (bytes == 0) break;
    some.push_back({part.text.substr(0, bytes), part.parse});
    bytes -= some.back().text.size();
  }
  return some;
}

bool Extends(const Parts& longer, const Parts& shorter) {
  if (shorter.size() > longer.size()) return false;
  for (size_t i = 0; i < shorter.size(); ++i) {
    const bool last = i + 1 == shorter.size();
    if (longer[i].parse != shorter[i].parse) return false;
    if (last ? !longer[i].text.starts_with(shorter[i].text) : longer[i].text != shorter[i].text) return false;
  }
  return true;
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

class TurnWriter::Renderer {
 public:
  static Result<Renderer> From(const TurnWriter& writer, const std::vector<model::Tool>& tools) {
    std::shared_ptr<const model::ChatTemplate> chat;
    {
      const std::lock_guard lock(writer.mutex_);
      if (!writer.idle_.empty()) {
        chat = std::move(writer.idle_.back());
        writer.idle_.pop_back();
      }
    }
    if (!chat) {
      HEADRACE_ASSIGN(chat, model::ChatTemplate::Make(*writer.model_, writer.chat_template_));
    }
    return Renderer(&writer, std::move(chat), tools);
  }
  Renderer(Renderer&&) = default;
  Renderer& operator=(Renderer&&) = delete;
  ~Renderer() {
    if (!chat_) return;
    const std::lock_guard lock(writer_->mutex_);
    writer_->idle_.push_back(std::move(chat_));
  }

  // With the header of an answer, or up to the end of the last message.
  Result<Parts> Render(const Messages& messages, bool header) const {
    HEADRACE_ASSIGN(
        model::Prompt prompt,
        chat_->Render(messages,
                      {.tools = tools_, .think = writer_->think_, .header = header, .format = false}));
    return std::move(prompt.parts);
  }
  // Bytes of the text before the last message's own, in a rendering that ends with that message.
  Result<size_t> HeaderBytes(Messages messages, const std::string& rendered) const {
    std::string& said = messages.back().content;
    said = std::string(Trimmed(said));
    HEADRACE_ASSIGN(
        const model::Prompt prompt,
        chat_->Render(messages,
                      {.tools = tools_, .think = writer_->think_, .reply = false, .format = false}));
    const std::string text = prompt.text();
    if (text.ends_with(said)) {
      const size_t header = text.size() - said.size();
      if (rendered.compare(0, header, text, 0, header) == 0) return header;
    }
    return Status::Invalid("the chat template writes messages[" + std::to_string(messages.size() - 1) +
                           "] so that its text cannot be told from the rest");
  }

 private:
  Renderer(const TurnWriter* writer, std::shared_ptr<const model::ChatTemplate> chat,
           const std::vector<model::Tool>& tools)
      : writer_(writer), chat_(std::move(chat)), tools_(tools) {}
  const TurnWriter* writer_;
  std::shared_ptr<const model::ChatTemplate> chat_;
  const std::vector<model::Tool>& tools_;
};

Result<std::unique_ptr<TurnWriter>> TurnWriter::Make(std::shared_ptr<const model::Model> model,
                                                     const std::string& chat_template, bool think) {
  std::unique_ptr<TurnWriter> writer(new TurnWriter());
  writer->chat_template_ = chat_template;
  writer->think_ = think;
  HEADRACE_ASSIGN(auto chat, model::ChatTemplate::Make(*model, chat_template));
  for (const Token token : model->EndTokens()) writer->end_names_.push_back(model->Name(token));
  // As a request would have them.
  if (auto prompt = chat->Render({{"user", "…"}}, {.think = think}); prompt.ok())
    writer->turn_ends_ = std::move(prompt->turn_ends);
  writer->hash_ = chat->hash();
  writer->knows_tools_ = chat->knows_tools();
  writer->idle_.push_back(std::move(chat));
  writer->model_ = std::move(model);
  return writer;
}

Result<Turn> TurnWriter::Write(const Messages& messages, const std::vector<model::Tool>& tools,
                               size_t k) const {
  HEADRACE_ASSIGN(const Renderer renderer, Renderer::From(*this, tools));
  const Messages until(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(k) + 1);
  if (k > 0 && until[k].role == "assistant") {
    HEADRACE_ASSIGN(Parts prompt, renderer.Render(Messages(until.begin(), until.end() - 1), true));
    return WriteAnswer(renderer, until, std::move(prompt));
  }
  // Nobody asks the server for these: the turn's text is learned after its header.
  HEADRACE_ASSIGN(Parts rendered, renderer.Render(until, false));
  HEADRACE_ASSIGN(const size_t header, renderer.HeaderBytes(until, TextOf(rendered)));
  Turn turn;
  turn.prompt = Beginning(rendered, header);
  End(until[k], std::move(rendered), &turn);
  return turn;
}

Result<Turn> TurnWriter::WriteAnswer(const Renderer& renderer, const Messages& messages, Parts prompt) const {
  const model::Message& message = messages.back();
  Turn turn;
  turn.prompt = std::move(prompt);
  auto rendered = renderer.Render(messages, false);
  if (rendered.ok() && Extends(*rendered, turn.prompt)) {
    End(message, std::move(*rendered), &turn);
    return turn;
  }
  // The template writes a finished turn in another way than it begins one: what was begun (a thought, mostly)
  // is closed, and the message's own text follows.
  const std::string text = rendered.ok() ? TextOf(*rendered) : "", begun = TextOf(turn.prompt);
  const auto same = std::mismatch(begun.begin(), begun.end(), text.begin(), text.end()).first;
  Parts whole = turn.prompt;
  if (const std::string tag = ClosingTag(std::string(same, begun.end())); !tag.empty()) {
    const bool lines = begun.ends_with('\n');
    AppendPart(&whole, message.reasoning, false);
    AppendPart(&whole, lines ? "\n" + tag + "\n\n" : tag, true);
  }
  const auto header = rendered.ok() ? renderer.HeaderBytes(messages, text) : rendered.status();
  if (header.ok()) {
    AppendFrom(&whole, *rendered, *header);
    End(message, std::move(whole), &turn);
    return turn;
  }
  // Not even that stands there as it is.
  if (!message.tool_calls.empty()) return header.status();
  AppendPart(&whole, Trimmed(message.content), false);
  turn.whole = std::move(whole);
  turn.open = true;
  return turn;
}

void TurnWriter::End(const model::Message& message, Parts rendered, Turn* turn) const {
  const size_t begin = TextOf(turn->prompt).size();
  const std::string text = TextOf(rendered);
  const std::string_view said = Trimmed(message.content);
  const size_t at = said.empty() ? std::string::npos : text.find(said, begin);
  const size_t from = at == std::string::npos ? begin : at + said.size();
  size_t end = EndOfName(rendered, end_names_, from);
  for (const std::string& stop : turn_ends_)
    if (const size_t found = text.find(stop, from); found != std::string::npos)
      end = std::min(end, found + stop.size());
  turn->open = end == std::string::npos;
  if (turn->open) {
    const size_t blanks = text.find_last_not_of(" \t\r\n");
    end = at != std::string::npos && message.tool_calls.empty() ? from : std::max(begin, blanks + 1);
  }
  turn->whole = Beginning(rendered, end);
}

Result<bool> GrowingTokens::Read(const Parts& prompt) {
  if (tokens_.empty()) {
    HEADRACE_ASSIGN(const std::vector<Token> tokens, (model::Prompt{prompt, {}, nullptr}.Tokenize(model_)));
    Add(tokens, false);
  } else {
    if (!may_grow_ || !Extends(prompt, parts_)) return false;
    HEADRACE_ASSIGN(const auto further, Further(prompt, false));
    if (!further) return false;
    Add(*further, false);
  }
  parts_ = prompt;
  return true;
}

Status GrowingTokens::Learn(const Parts& whole) {
  HEADRACE_ASSIGN(const auto further, Further(whole, true));
  if (further) {
    Add(*further, true);
  } else {
    // A token of the whole text would reach from the prompt into the answer.
    may_grow_ = false;
    Parts rest;
    AppendFrom(&rest, whole, TextOf(parts_).size());
    for (const model::PromptPart& part : rest) {
      HEADRACE_ASSIGN(const std::vector<Token> tokens, Alone(part));
      Add(tokens, true);
    }
  }
  parts_ = whole;
  return Status::Ok();
}

void GrowingTokens::LearnEnd(Token end) {
  Add({end}, true);
  may_grow_ = false;
}

Sample GrowingTokens::Take() {
  Sample sample;
  sample.tokens = std::move(tokens_);
  sample.learn = std::move(learn_);
  sample.whole = static_cast<int64_t>(sample.tokens.size());
  if (!sample.learn.empty()) sample.learn[0] = 0;  // nothing precedes it
  tokens_.clear();
  learn_.clear();
  parts_.clear();
  may_grow_ = true;
  return sample;
}

void GrowingTokens::Add(const std::vector<Token>& tokens, bool learned) {
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  learn_.resize(tokens_.size(), learned ? 1 : 0);
}

// The tokens of `longer` behind those of parts_; nothing where they do not begin with these. A text is cut
// at names of control tokens first, whatever stands around them: only what follows the last one is read
// again. Where the server's prompts would have spaces between parts, an answer has none.
Result<std::optional<std::vector<Token>>> GrowingTokens::Further(const Parts& longer, bool answer) {
  using Tokens = std::optional<std::vector<Token>>;
  if (parts_.empty()) return Tokens();
  const size_t last = parts_.size() - 1;
  const std::string& before = parts_[last].text;
  const std::string& after = longer[last].text;
  std::vector<Token> further;
  if (before.size() < after.size()) {
    const bool parse = parts_[last].parse;
    size_t from = 0;
    for (size_t at = parse && !names_.empty() ? before.size() : 0; at-- > 0 && from == 0;)
      if (names_.At(before, at) > 0) from = at;
    const bool special = last == 0 && from == 0;
    const auto tail = std::string_view(before).substr(from);
    HEADRACE_ASSIGN(const std::vector<Token> known, model_.Tokenize(tail, special, parse));
    HEADRACE_ASSIGN(further, model_.Tokenize(std::string_view(after).substr(from), special, parse));
    if (!BeginsWith(further, known)) return Tokens();
    further.erase(further.begin(), further.begin() + static_cast<std::ptrdiff_t>(known.size()));
  }
  for (size_t i = last + 1; i < longer.size(); ++i) {
    HEADRACE_ASSIGN(std::vector<Token> tokens, model_.Tokenize(longer[i].text, false, longer[i].parse));
    if (answer) {
      HEADRACE_ASSIGN(std::vector<Token> alone, Alone(longer[i]));
      may_grow_ = may_grow_ && alone == tokens;
      tokens = std::move(alone);
    }
    further.insert(further.end(), tokens.begin(), tokens.end());
  }
  return Tokens(std::move(further));
}

// The tokens of a text that follows other text. Some tokenizers put a space before a text's beginning: then
// the text is read behind something that its first token cannot swallow.
Result<std::vector<Token>> GrowingTokens::Alone(const model::PromptPart& part) const {
  const auto written = [&](const std::vector<Token>& tokens) {
    std::string all;
    for (const Token token : tokens)
      all += model_.Piece(token).empty() ? model_.Name(token) : std::string(model_.Piece(token));
    return all;
  };
  HEADRACE_ASSIGN(std::vector<Token> tokens, model_.Tokenize(part.text, false, part.parse));
  if (written(tokens) == part.text) return tokens;
  for (const std::string before : {"\n", ".", "a", "0"}) {
    HEADRACE_ASSIGN(const std::vector<Token> known, model_.Tokenize(before, false, part.parse));
    HEADRACE_ASSIGN(std::vector<Token> all, model_.Tokenize(before + part.text, false, part.parse));
    if (!BeginsWith(all, known)) continue;
    all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(known.size()));
    if (written(all) == part.text) return all;
  }
  return tokens;
}

}  // namespace headrace::tune
