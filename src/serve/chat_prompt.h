// The prompt of a conversation, tools and all: the same for an answer, a count and /tokenize.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/tool_calls.h"
#include "serve/backend.h"

namespace headrace::serve {

struct ChatCall {
  engine::ChatPrompt prompt;
  api::ToolPlan plan;
};

// `field`: where the conversation stands, for errors.
std::optional<api::Fault> MakeChatPrompt(const Served& served, std::vector<model::Message> messages,
                                         const api::Tools& tools, model::RenderOptions render,
                                         const std::string& field, ChatCall* out);

}  // namespace headrace::serve
