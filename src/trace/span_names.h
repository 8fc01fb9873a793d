// span_names: what attributes of spans are called by OpenTelemetry's conventions for generative AI
// (gen_ai.*), by OpenInference (llm.*, input.value), OpenLLMetry (traceloop.*, gen_ai.prompt.N.*) and the
// Vercel AI SDK (ai.*), and the column of `traces` that each means. A convention more is lines of this table.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace headrace::trace {

enum class As : uint8_t {
  kText,      // as it is; what is no text as JSON
  kWord,      // a kind of work, in OpenTelemetry's words where it has one: SpanWords()
  kFinish,    // why it ended, in OpenAI's words where they have one; of a list the first
  kInteger,   // a count
  kNumber,    //
  kMillis,    // milliseconds, told as seconds
  kJson,      // a JSON value, also as text
  kMessages,  // a conversation, in any shape that span_messages.h reads; a text is what the user said
  kInput,     // the same, but a text is none
  kTools,     // tools that were offered
  kCalls,     // calls of tools alone
};

struct SpanName {
  std::string_view from;  // "llm.input_messages.": all below it, as nested JSON
  // A column, or a part of one: "messages", "system" and "tools" become `input`; "choices", "said" and
  // "calls" become `answer`, `reasoning` and `tool_calls`; "sampling.…" becomes `sampling`.
  std::string_view to;
  As as;
};
// Of one `to`, the first that a span has counts.
std::span<const SpanName> SpanNames();

struct SpanWord {
  std::string_view from, to;
};
std::span<const SpanWord> SpanWords();

// Events of a span that each are one message of its conversation (OpenTelemetry before 1.37).
struct SpanEventName {
  std::string_view from, role;
  bool is_choice;
};
std::span<const SpanEventName> SpanEventNames();

}  // namespace headrace::trace
