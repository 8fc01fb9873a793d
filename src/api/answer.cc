#include "api/answer.h"

#include "base/json.h"

namespace headrace::api {
namespace {

// A format looks at the whole text each time: the longer the text, the more must be new.
constexpr size_t kLooksPerText = 256;

}  // namespace

Assembler::Assembler(int index, std::shared_ptr<const model::AnswerFormat> format,
                     std::function<std::string()> new_call_id)
    : format_(std::move(format)), new_call_id_(std::move(new_call_id)) {
  choice_.index = index;
  choice_.message.role = "assistant";
}

void Assembler::Compare(model::Message now, bool whole, std::vector<Event>* events) {
  model::Message& was = choice_.message;
  const auto grow = [&](std::string* old, const std::string& text, Event::Kind kind, size_t call) {
    // What was told cannot be taken back; a format that changes its mind adds nothing until it agrees again.
    if (text.size() <= old->size() || text.compare(0, old->size(), *old) != 0) return;
    events->push_back({kind, call, text.substr(old->size())});
    *old = text;
  };
  grow(&was.reasoning, now.reasoning, Event::Kind::kReasoning, 0);
  grow(&was.content, now.content, Event::Kind::kText, 0);
  for (size_t i = 0; i < now.tool_calls.size(); ++i) {
    if (i == was.tool_calls.size()) {
      // Until the next begins or the answer ends, a name may still be growing.
      if (now.tool_calls[i].name.empty()) break;
      was.tool_calls.push_back({new_call_id_(), now.tool_calls[i].name, ""});
      events->push_back({Event::Kind::kCall, i, now.tool_calls[i].name});
    }
    grow(&was.tool_calls[i].arguments, now.tool_calls[i].arguments, Event::Kind::kArguments, i);
  }
  if (!whole) return;
  for (size_t i = 0; i < was.tool_calls.size(); ++i)
    if (was.tool_calls[i].arguments.empty()) {
      was.tool_calls[i].arguments = "{}";
      events->push_back({Event::Kind::kArguments, i, "{}"});
    }
}

std::vector<Event> Assembler::Add(engine::Delta&& delta) {
  std::vector<Event> events;
  for (auto& token : delta.tokens) choice_.tokens.push_back(std::move(token));
  for (auto& token : delta.prompt) choice_.prompt.push_back(std::move(token));
  const bool whole = delta.finish != engine::Finish::kNone;
  if (whole) {
    choice_.finish = delta.finish;
    choice_.stop = std::move(delta.stop);
    choice_.stop_token = delta.stop_token;
  }
  choice_.usage = delta.usage;
  if (!format_) {
    if (!delta.text.empty()) {
      choice_.message.content += delta.text;
      events.push_back({Event::Kind::kText, 0, std::move(delta.text)});
    }
    return events;
  }
  text_ += delta.text;
  if (!whole && text_.size() - parsed_ < std::max<size_t>(1, text_.size() / kLooksPerText)) return events;
  parsed_ = text_.size();
  Compare(format_->Parse(text_, whole), whole, &events);
  return events;
}

std::string FinishReason(const Choice& choice) {
  switch (choice.finish) {
    case engine::Finish::kNone:
      return "";
    case engine::Finish::kLength:
      return "length";
    case engine::Finish::kEnd:
      return choice.message.tool_calls.empty() ? "stop" : "tool_calls";
    case engine::Finish::kStop: {  // the client's own string may have cut a call short
      const std::vector<model::ToolCall>& calls = choice.message.tool_calls;
      return calls.empty() || !nlohmann::json::accept(calls.back().arguments) ? "stop" : "tool_calls";
    }
    case engine::Finish::kCancelled:
      return "cancelled";
    case engine::Finish::kTimeout:
      return "timeout";
    case engine::Finish::kError:
      return "error";
  }
  return "";
}

}  // namespace headrace::api
