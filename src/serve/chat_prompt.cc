#include "serve/chat_prompt.h"

#include "serve/refusal.h"

namespace headrace::serve {

std::optional<api::Fault> MakeChatPrompt(const Served& served, std::vector<model::Message> messages,
                                         const api::Tools& tools, model::RenderOptions render,
                                         const std::string& field, ChatCall* out) {
  const engine::ChatSession& session = *served.session;
  if (session.chat() == nullptr)
    return api::Fault{400, "no_chat_template", "model",
                      session.chat_problem().ToString() + " (headrace serve --chat-template)"};
  const bool knows = session.chat()->knows_tools();
  out->plan = api::PlanTools(tools, knows);
  if (out->plan.fault) return out->plan.fault;
  if (!out->plan.instructions.empty()) {
    if (messages[0].role == "system") {
      messages[0].content += "\n\n" + out->plan.instructions;
    } else {
      messages.insert(messages.begin(), {"system", out->plan.instructions});
    }
  }
  if (knows && tools.callable()) render.tools = tools.list;
  auto rendered = session.Render(std::move(messages), render);
  if (!rendered.ok()) {
    api::Fault fault = api::Fault::From(rendered.status());
    fault.param = "messages";
    return fault;
  }
  if (auto fault = CannotFit(served, rendered->text().size(), field)) return fault;
  auto prompt = session.Cut(std::move(*rendered));
  if (!prompt.ok()) return api::Fault::From(prompt.status());
  out->prompt = std::move(*prompt);
  return std::nullopt;
}

}  // namespace headrace::serve
