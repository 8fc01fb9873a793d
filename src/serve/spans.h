// spans: /v1/traces, OpenTelemetry's receiver (OTLP/HTTP 1.x): spans of anyone become rows of `traces`.
#pragma once

#include <memory>

#include "serve/ticket.h"

namespace headrace::serve {

// Answers the ticket's request: an ExportTraceServiceRequest in protobuf or JSON, answered in the same. It is
// in the spool, as it came, before a 200 is said; the committer makes rows of it. Spans that are none are
// counted in the answer's partial success. Called on a worker.
void Spans(const std::shared_ptr<Ticket>& ticket);

}  // namespace headrace::serve
