#include "trace/span_names.h"

namespace headrace::trace {
namespace {

constexpr SpanName kSpanNames[] = {
    {"gen_ai.operation.name", "operation", As::kWord},
    {"openinference.span.kind", "operation", As::kWord},
    {"llm.request.type", "operation", As::kWord},
    {"traceloop.span.kind", "operation", As::kWord},
    {"ai.operationId", "operation", As::kWord},

    {"gen_ai.request.model", "model", As::kText},
    {"gen_ai.response.model", "model", As::kText},
    {"llm.model_name", "model", As::kText},
    {"embedding.model_name", "model", As::kText},
    {"reranker.model_name", "model", As::kText},
    {"llm.request.model", "model", As::kText},
    {"ai.model.id", "model", As::kText},

    {"gen_ai.provider.name", "provider", As::kText},
    {"gen_ai.system", "provider", As::kText},
    {"llm.provider", "provider", As::kText},
    {"llm.system", "provider", As::kText},
    {"ai.model.provider", "provider", As::kText},

    {"gen_ai.conversation.id", "session", As::kText},
    {"session.id", "session", As::kText},
    {"traceloop.association.properties.session_id", "session", As::kText},
    {"ai.telemetry.metadata.sessionId", "session", As::kText},
    {"langfuse.session.id", "session", As::kText},

    {"user.id", "user", As::kText},
    {"gen_ai.user", "user", As::kText},
    {"enduser.id", "user", As::kText},
    {"traceloop.association.properties.user_id", "user", As::kText},
    {"ai.telemetry.metadata.userId", "user", As::kText},
    {"langfuse.user.id", "user", As::kText},

    {"gen_ai.usage.input_tokens", "prompt_tokens", As::kInteger},
    {"gen_ai.usage.prompt_tokens", "prompt_tokens", As::kInteger},
    {"llm.token_count.prompt", "prompt_tokens", As::kInteger},
    {"ai.usage.inputTokens", "prompt_tokens", As::kInteger},
    {"ai.usage.promptTokens", "prompt_tokens", As::kInteger},
    {"ai.usage.tokens", "prompt_tokens", As::kInteger},

    {"gen_ai.usage.cache_read.input_tokens", "cached_tokens", As::kInteger},
    {"gen_ai.usage.cache_read_input_tokens", "cached_tokens", As::kInteger},
    {"llm.token_count.prompt_details.cache_read", "cached_tokens", As::kInteger},
    {"ai.usage.cachedInputTokens", "cached_tokens", As::kInteger},

    {"gen_ai.usage.output_tokens", "answer_tokens", As::kInteger},
    {"gen_ai.usage.completion_tokens", "answer_tokens", As::kInteger},
    {"llm.token_count.completion", "answer_tokens", As::kInteger},
    {"ai.usage.outputTokens", "answer_tokens", As::kInteger},
    {"ai.usage.completionTokens", "answer_tokens", As::kInteger},

    {"gen_ai.usage.cost", "cost", As::kNumber},
    {"llm.cost.total", "cost", As::kNumber},
    {"operation.cost", "cost", As::kNumber},

    {"gen_ai.response.finish_reasons", "finish", As::kFinish},
    {"ai.response.finishReason", "finish", As::kFinish},
    {"llm.finish_reason", "finish", As::kFinish},
    {"llm.response.finish_reason", "finish", As::kFinish},
    {"llm.response.stop_reason", "finish", As::kFinish},

    {"gen_ai.is_streaming", "stream", As::kJson},
    {"llm.is_streaming", "stream", As::kJson},

    {"gen_ai.request.max_tokens", "max_tokens", As::kInteger},
    {"llm.request.max_tokens", "max_tokens", As::kInteger},
    {"ai.settings.maxOutputTokens", "max_tokens", As::kInteger},
    {"ai.settings.maxTokens", "max_tokens", As::kInteger},

    {"ai.response.msToFirstChunk", "first_token_seconds", As::kMillis},
    {"gen_ai.response.time_to_first_chunk", "first_token_seconds", As::kNumber},

    {"http.response.status_code", "status", As::kInteger},
    {"http.status_code", "status", As::kInteger},
    {"exception.message", "error", As::kText},
    {"error.type", "error", As::kText},

    {"gen_ai.request.temperature", "sampling.temperature", As::kNumber},
    {"ai.settings.temperature", "sampling.temperature", As::kNumber},
    {"gen_ai.request.top_p", "sampling.top_p", As::kNumber},
    {"ai.settings.topP", "sampling.top_p", As::kNumber},
    {"gen_ai.request.top_k", "sampling.top_k", As::kNumber},
    {"ai.settings.topK", "sampling.top_k", As::kNumber},
    {"gen_ai.request.seed", "sampling.seed", As::kInteger},
    {"ai.settings.seed", "sampling.seed", As::kInteger},
    {"gen_ai.request.frequency_penalty", "sampling.frequency_penalty", As::kNumber},
    {"gen_ai.request.presence_penalty", "sampling.presence_penalty", As::kNumber},
    {"gen_ai.request.stop_sequences", "sampling.stop", As::kJson},
    {"gen_ai.request.choice.count", "sampling.n", As::kInteger},
    {"llm.invocation_parameters", "sampling", As::kJson},

    {"gen_ai.system_instructions", "system", As::kMessages},
    {"gen_ai.input.messages", "messages", As::kMessages},
    {"llm.input_messages.", "messages", As::kMessages},
    {"gen_ai.prompt.", "messages", As::kMessages},
    {"gen_ai.prompt", "messages", As::kMessages},
    {"ai.prompt.messages", "messages", As::kMessages},
    {"ai.prompt", "messages", As::kMessages},
    {"input.value", "messages", As::kInput},
    {"traceloop.entity.input", "messages", As::kInput},

    {"gen_ai.tool.definitions", "tools", As::kTools},
    {"llm.tools.", "tools", As::kTools},
    {"llm.request.functions.", "tools", As::kTools},
    {"ai.prompt.tools", "tools", As::kTools},

    {"gen_ai.tool.call.arguments", "input", As::kJson},
    {"ai.toolCall.args", "input", As::kJson},
    {"ai.value", "input", As::kJson},
    {"ai.values", "input", As::kJson},
    {"tool.parameters", "input", As::kJson},
    {"input.value", "input", As::kJson},
    {"traceloop.entity.input", "input", As::kJson},

    {"gen_ai.output.messages", "choices", As::kMessages},
    {"llm.output_messages.", "choices", As::kMessages},
    {"gen_ai.completion.", "choices", As::kMessages},

    {"ai.response.toolCalls", "calls", As::kCalls},
    {"ai.response.reasoning", "reasoning", As::kText},
    {"ai.response.text", "said", As::kText},
    {"ai.response.object", "said", As::kText},
    {"gen_ai.completion", "said", As::kText},
    {"gen_ai.tool.call.result", "said", As::kText},
    {"ai.toolCall.result", "said", As::kText},
    {"output.value", "said", As::kText},
    {"traceloop.entity.output", "said", As::kText},
};

constexpr SpanWord kSpanWords[] = {
    {"LLM", "chat"},
    {"EMBEDDING", "embeddings"},
    {"TOOL", "execute_tool"},
    {"AGENT", "invoke_agent"},
    {"CHAIN", "chain"},
    {"RETRIEVER", "retrieval"},
    {"RERANKER", "rerank"},
    {"GUARDRAIL", "guardrail"},
    {"EVALUATOR", "evaluate"},
    {"PROMPT", "prompt"},
    {"completion", "text_completion"},
    {"embedding", "embeddings"},
    {"tool", "execute_tool"},
    {"agent", "invoke_agent"},
    {"ai.generateText", "invoke_agent"},
    {"ai.streamText", "invoke_agent"},
    {"ai.generateObject", "invoke_agent"},
    {"ai.streamObject", "invoke_agent"},
    {"ai.generateText.doGenerate", "chat"},
    {"ai.streamText.doStream", "chat"},
    {"ai.generateObject.doGenerate", "chat"},
    {"ai.streamObject.doStream", "chat"},
    {"ai.embed", "embeddings"},
    {"ai.embed.doEmbed", "embeddings"},
    {"ai.embedMany", "embeddings"},
    {"ai.embedMany.doEmbed", "embeddings"},
    {"ai.toolCall", "execute_tool"},
    {"tool_call", "tool_calls"},
    {"tool-calls", "tool_calls"},
    {"tool_use", "tool_calls"},
    {"end_turn", "stop"},
    {"STOP", "stop"},
    {"MAX_TOKENS", "length"},
    {"max_tokens", "length"},
};

constexpr SpanEventName kSpanEventNames[] = {
    {"gen_ai.system.message", "system", false},
    {"gen_ai.user.message", "user", false},
    {"gen_ai.assistant.message", "assistant", false},
    {"gen_ai.tool.message", "tool", false},
    {"gen_ai.choice", "assistant", true},
};

}  // namespace

std::span<const SpanName> SpanNames() { return kSpanNames; }
std::span<const SpanWord> SpanWords() { return kSpanWords; }
std::span<const SpanEventName> SpanEventNames() { return kSpanEventNames; }

}  // namespace headrace::trace
