// spans: /v1/traces, OpenTelemetry's receiver (OTLP/HTTP 1.x): spans of anyone become rows of `traces`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "serve/ticket.h"
#include "trace/otlp.h"

namespace headrace::serve {

inline constexpr int kRetrySeconds = 5;  // told to who finds the disk full

struct SpansTaken {
  int status = 200;      // of HTTP: 200, 400, 501, 503
  int64_t rejected = 0;  // of 200: spans that are none
  std::string why;       // of what was rejected first; what is wrong otherwise
};
// Keeps an ExportTraceServiceRequest: it is in the spool, as it came, when this returns 200.
SpansTaken TakeSpans(const Ticket& ticket, trace::OtlpFormat format, std::string_view body);

// Answers the ticket's request: an ExportTraceServiceRequest in protobuf or JSON, answered in the same. It is
// in the spool, as it came, before a 200 is said; the committer makes rows of it. Spans that are none are
// counted in the answer's partial success. Called on a worker.
void Spans(const std::shared_ptr<Ticket>& ticket);

}  // namespace headrace::serve
