// span_messages: conversations as the conventions of span_names.h write them, in one shape, OpenAI's:
//   {"role", "content": a text or a list of parts, "tool_calls": [{"id", "type", "function": {"name",
//    "arguments"}}], "tool_call_id", "reasoning", "finish_reason"}
// All of it pure. What is in no known shape is kept as it came.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"

namespace headrace::trace {

// A JSON text as its value; another text, and JSON that is nested too deep to be walked, stay texts.
nlohmann::json Unpacked(const nlohmann::json& told);

// A list of messages. Nothing where it is no conversation; a mere text is one message of `role`, unless
// that is "".
std::optional<nlohmann::json> ReadMessages(const nlohmann::json& told, std::string_view role);
nlohmann::json ReadCalls(const nlohmann::json& told);  // a list, as in "tool_calls"
nlohmann::json ReadTools(const nlohmann::json& told);  // a list, as OpenAI's API takes it

// What a message says, without its pictures and calls.
std::string TextOf(const nlohmann::json& message);

}  // namespace headrace::trace
