// The AI SDK with its telemetry, exported by OpenTelemetry's own JavaScript SDK: prints the trace's id and what was said.
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtobufExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, tool } from "ai";

const [, , url, apiKey, format] = process.argv;
const Exporter = format === "json" ? JsonExporter : ProtobufExporter;
const exporter = new Exporter({ url: `${url}/v1/traces`, headers: { authorization: `Bearer ${apiKey}` }, compression: "gzip" });
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
provider.register();
const model = createOpenAICompatible({ name: "headrace", baseURL: `${url}/v1`, apiKey })("gemma");
const weather = { type: "object", properties: { city: { type: "string", maxLength: 20 } }, required: ["city"], additionalProperties: false };
const tracer = provider.getTracer("clients");
const told = await tracer.startActiveSpan(`agent ${format}`, async (span) => {
  const answer = await generateText({
    model, system: "Be brief.", prompt: "Weather in Paris?", maxOutputTokens: 60, maxRetries: 0, temperature: 0,
    toolChoice: { type: "tool", toolName: "get_weather" }, tools: { get_weather: tool({ description: "The weather", inputSchema: jsonSchema(weather) }) },
    experimental_telemetry: { isEnabled: true, metadata: { userId: "ada", sessionId: "js" } },
  });
  span.end();
  return { trace: span.spanContext().traceId, call: answer.toolCalls[0], usage: answer.usage };
});
await provider.shutdown();
console.log(JSON.stringify(told));
