// OpenTelemetry's own JavaScript SDK over gRPC: prints the trace's id.
import { Metadata } from "@grpc/grpc-js";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const [, , url, apiKey, count] = process.argv;
const metadata = new Metadata();
metadata.set("authorization", `Bearer ${apiKey}`);
const exporter = new OTLPTraceExporter({ url, metadata, compression: "gzip" });
const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter, { maxQueueSize: 10000 })] });
provider.register();
const tracer = provider.getTracer("clients");
const trace = tracer.startActiveSpan("outer", (span) => {
  for (let i = 0; i < Number(count); i++) tracer.startSpan(`part ${i}`, { attributes: { i } }).end();
  span.end();
  return span.spanContext().traceId;
});
await provider.shutdown();
console.log(trace);
