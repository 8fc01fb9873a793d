// otlp: what an OpenTelemetry sender exports (opentelemetry-proto 1.x, trace/v1), from protobuf or JSON, as
// plain values. What the attributes mean is read elsewhere (span_rows.h).
//
//   HEADRACE_ASSIGN(const OtlpBatch batch, DecodeOtlp(OtlpFormat::kProtobuf, body));
//   for (const Span& span : batch.spans) …
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace headrace::trace {

enum class OtlpFormat { kProtobuf, kJson };

// Text is UTF-8: bytes that are none became U+FFFD. Attributes are JSON objects, by name; of a name that
// comes twice the first value counts. NaN and infinities are the strings "NaN", "Infinity" and "-Infinity",
// bytes are base64, as in OTLP's own JSON.
struct Span {
  std::string trace_id, span_id;  // 32 and 16 lower-case hex digits
  std::string parent;             // 16, or "" where it is the root of its trace
  std::string state;              // W3C tracestate
  std::string name;
  int kind = 0;                       // SpanKind: 1 internal, 2 server, 3 client, 4 producer, 5 consumer
  uint64_t start_ns = 0, end_ns = 0;  // since 1970; 0: not told
  int status = 0;                     // StatusCode: 0 unset, 1 ok, 2 error
  std::string message;                // of the status
  uint64_t dropped = 0;               // attributes that the sender left out
  nlohmann::json attributes = nlohmann::json::object();
  nlohmann::json events = nlohmann::json::array();  // {"time": microseconds, "name", "attributes"}
  nlohmann::json links = nlohmann::json::array();   // {"trace_id", "span_id", "attributes"}
  size_t origin = 0;                                // in OtlpBatch::origins
};

// Who made a group of spans: the resource's attributes, and its library as otel.scope.name and
// otel.scope.version.
struct OtlpBatch {
  std::vector<nlohmann::json> origins;
  std::vector<Span> spans;
  int64_t rejected = 0;  // spans that are none: their ids are missing or malformed, …
  int64_t shared = 0;    // bytes of resources and scopes, as often as they are kept
  std::string why;       // of the first of them
};

// Most spans of one request; the others are rejected.
inline constexpr size_t kMaxSpans = 64 << 10;
// Each span is kept with all that it shares with others; of one request as many as come to this, in bytes as
// they came. The others are rejected: a megabyte that 60,000 spans share is 60 GB.
inline constexpr int64_t kMostShared = int64_t{256} << 20;
// Lists and maps in an attribute; a span with a deeper one is rejected.
inline constexpr int kMaxAttributeDepth = 64;

// What is made of a body: for an answer it is enough to know which spans there are. (Of JSON, all is made.)
enum class OtlpParts { kAll, kIds };
// kInvalid: the body is no ExportTraceServiceRequest. Never throws. With kIds the batch has the same spans,
// is rejected for the same reasons, and its spans say nothing but their ids, kind and times.
Result<OtlpBatch> DecodeOtlp(OtlpFormat format, std::string_view body, OtlpParts parts = OtlpParts::kAll);
Result<OtlpBatch> DecodeOtlpProtobuf(std::string_view body, OtlpParts parts = OtlpParts::kAll);
Result<OtlpBatch> DecodeOtlpJson(std::string_view body);

// Takes a span into the batch, or counts it as rejected. Its ids are bytes in hex, of any case and length.
void AddSpan(OtlpBatch* batch, Span span);
void RejectSpan(OtlpBatch* batch, const std::string& why);
// Whether there is room for what one more span, or one more origin, shares; takes it if so.
bool TakeShared(OtlpBatch* batch, int64_t bytes);
inline constexpr const char* kTooMuchShared =
    "what spans share (resource and scope) is too much to be kept with each of them";

// An ExportTraceServiceResponse.
std::string OtlpAnswer(OtlpFormat format, int64_t rejected, const std::string& why);
// A google.rpc.Status, the body of every error: its code (3 invalid argument, 8 exhausted, 14 unavailable).
std::string OtlpError(OtlpFormat format, int code, const std::string& message);

}  // namespace headrace::trace
