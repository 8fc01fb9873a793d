#include "serve/chat_prompt.h"

#include "api/writer.h"

namespace headrace::serve {
namespace {

// For templates that know no tools: what was called and what came of it, in words.
void WriteCallsAsText(std::vector<model::Message>* messages) {
  for (model::Message& message : *messages) {
    for (const model::ToolCall& call : message.tool_calls)
      message.content += (message.content.empty() ? "" : "\n") + std::string("<tool_call>\n{\"name\": ") +
                         api::JsonText(call.name) + ", \"arguments\": " + call.arguments + "}\n</tool_call>";
    message.tool_calls.clear();
    if (message.role == "tool") {
      message.role = "user";
      message.content = "<tool_response>\n" + message.content + "\n</tool_response>";
    }
  }
}

}  // namespace

std::optional<api::Fault> MakeChatPrompt(const Served& served, std::vector<model::Message> messages,
                                         const api::Tools& tools, model::RenderOptions render,
                                         ChatPrompt* out) {
  if (!served.chat)
    return api::Fault{400, "no_chat_template", "model",
                      served.chat_problem.ToString() + " (headrace serve --chat-template)"};
  const bool knows = served.chat->knows_tools();
  out->plan = api::PlanTools(tools, knows);
  if (out->plan.fault) return out->plan.fault;
  if (!out->plan.instructions.empty()) {
    if (messages[0].role == "system") {
      messages[0].content += "\n\n" + out->plan.instructions;
    } else {
      messages.insert(messages.begin(), {"system", out->plan.instructions});
    }
  }
  if (!knows) WriteCallsAsText(&messages);  // of earlier turns, whatever this one offers
  if (knows && tools.callable()) render.tools = tools.list;
  auto prompt = served.chat->Render(messages, render);
  if (!prompt.ok()) {
    api::Fault fault = api::Fault::From(prompt.status());
    fault.param = "messages";
    return fault;
  }
  out->prompt = std::move(*prompt);
  return std::nullopt;
}

}  // namespace headrace::serve
