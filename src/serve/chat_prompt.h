// The prompt of a conversation, tools and all: the same for an answer, a count and /tokenize.
#pragma once

#include <optional>
#include <vector>

#include "api/tool_calls.h"
#include "serve/models.h"

namespace headrace::serve {

struct ChatPrompt {
  model::Prompt prompt;
  api::ToolPlan plan;
};

std::optional<api::Fault> MakeChatPrompt(const Served& served, std::vector<model::Message> messages,
                                         const api::Tools& tools, model::RenderOptions render,
                                         ChatPrompt* out);

}  // namespace headrace::serve
