// span_rows: rows of `traces` from what OpenTelemetry senders export: the record of the spool that holds a
// request's body as it came, and what it is decoded to when it is committed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "trace/otlp.h"

namespace headrace::trace {

// How a body came.
struct SpansTold {
  OtlpFormat format = OtlpFormat::kProtobuf;
  int64_t received = 0;               // microseconds since 1970
  std::string key, key_name, client;  // as the columns are
};

// A record of the kind otlp: one line of JSON about the body, then the body.
std::string SpansRecord(const SpansTold& told, std::string_view body);

// The rows of such a record, and those of `media` with what was cut out of its texts; false where it is none
// that this program can read.
bool AddSpans(std::string_view record, std::vector<nlohmann::json>* rows, std::vector<nlohmann::json>* media);

// One span as a row. Its id is trace_id and span_id together.
nlohmann::json SpanRow(Span span, const nlohmann::json& origin, const SpansTold& told,
                       std::vector<nlohmann::json>* media);

}  // namespace headrace::trace
