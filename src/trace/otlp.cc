#include "trace/otlp.h"

#include <algorithm>
#include <protozero/pbf_writer.hpp>

#include "base/utf8.h"

namespace headrace::trace {

using nlohmann::json;

namespace {

constexpr size_t kTraceDigits = 32, kSpanDigits = 16;

// In lower case; false where it is no id of so many digits. Zeros alone are none, as W3C has it.
bool ReadId(std::string* id, size_t digits) {
  if (id->size() != digits) return false;
  *id = AsciiLower(*id);
  const auto hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return std::all_of(id->begin(), id->end(), hex) && id->find_first_not_of('0') != std::string::npos;
}

std::string Dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

Result<OtlpBatch> DecodeOtlp(OtlpFormat format, std::string_view body, OtlpParts parts) {
  return format == OtlpFormat::kProtobuf ? DecodeOtlpProtobuf(body, parts) : DecodeOtlpJson(body);
}

void RejectSpan(OtlpBatch* batch, const std::string& why) {
  if (batch->rejected++ == 0) batch->why = why;
}

bool TakeShared(OtlpBatch* batch, int64_t bytes) {
  if (batch->shared + bytes > kMostShared) return false;
  batch->shared += bytes;
  return true;
}

void AddSpan(OtlpBatch* batch, Span span) {
  if (!ReadId(&span.trace_id, kTraceDigits))
    return RejectSpan(batch, "a span's trace_id is not 16 bytes, or all zeros");
  if (!ReadId(&span.span_id, kSpanDigits))
    return RejectSpan(batch, "a span's span_id is not 8 bytes, or all zeros");
  if (span.parent.find_first_not_of('0') == std::string::npos) span.parent.clear();
  if (!span.parent.empty() && !ReadId(&span.parent, kSpanDigits))
    return RejectSpan(batch, "a span's parent_span_id is not 8 bytes");
  if (batch->spans.size() == kMaxSpans)
    return RejectSpan(batch, "one request has more than " + std::to_string(kMaxSpans) + " spans");
  batch->spans.push_back(std::move(span));
}

std::string OtlpAnswer(OtlpFormat format, int64_t rejected, const std::string& why) {
  const bool partial = rejected > 0 || !why.empty();
  if (format == OtlpFormat::kJson) {
    if (!partial) return "{}";
    return Dump({{"partialSuccess", {{"rejectedSpans", std::to_string(rejected)}, {"errorMessage", why}}}});
  }
  std::string body;
  if (!partial) return body;
  std::string told;
  protozero::pbf_writer success(told);
  success.add_int64(1, rejected);
  success.add_string(2, why);
  protozero::pbf_writer(body).add_message(1, told);
  return body;
}

std::string OtlpError(OtlpFormat format, int code, const std::string& message) {
  if (format == OtlpFormat::kJson) return Dump({{"code", code}, {"message", message}});
  std::string body;
  protozero::pbf_writer status(body);
  status.add_int32(1, code);
  status.add_string(2, CleanUtf8(message));
  return body;
}

}  // namespace headrace::trace
