// Calls of tools in a model's text, where its template brings no format of its own or a call is enforced.
//
// Free calls are written as Hermes writes them (NousResearch/Hermes-Function-Calling; Qwen and others
// follow):
//   <tool_call>\n{"name": "f", "arguments": {…}}\n</tool_call>
// and a grammar holds what is inside to the tools' schemas, as far as they can be held. Enforced calls are
// the whole answer: one such object, or an array of them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "api/call.h"

namespace headrace::api {

// How a call's prompt and grammar are made, and its answer read.
struct ToolPlan {
  std::string instructions;     // for the system's message; "" where the template tells of the tools
  engine::Structure structure;  // kNone: free
  std::shared_ptr<const model::AnswerFormat> format;  // null: the template's
  std::vector<std::string> loose;                     // places of schemas that are not held
  std::optional<Fault> fault;                         // of a schema that must be held and cannot be
};
ToolPlan PlanTools(const Tools& tools, bool template_knows_tools);

// The formats by themselves, for tests and fuzzing.
std::unique_ptr<model::AnswerFormat> TaggedCalls();
std::unique_ptr<model::AnswerFormat> EnforcedCalls();

// The end of the JSON value that begins at `at`, or npos where the text ends within it.
size_t JsonEnd(const std::string& text, size_t at);

}  // namespace headrace::api
