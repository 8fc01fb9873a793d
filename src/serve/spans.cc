#include "serve/spans.h"

#include <optional>

#include "base/utf8.h"
#include "trace/span_rows.h"

namespace headrace::serve {
namespace {

using trace::OtlpFormat;

constexpr const char* kProtobuf = "application/x-protobuf";
constexpr const char* kJson = "application/json";
// google.rpc.Code
constexpr int kInvalidArgument = 3, kUnimplemented = 12, kUnavailable = 14;

std::optional<OtlpFormat> FormatOf(std::string_view type) {
  std::string word = AsciiLower(type.substr(0, type.find(';')));
  while (word.ends_with(' ')) word.pop_back();
  if (word == kProtobuf || word == "application/protobuf") return OtlpFormat::kProtobuf;
  if (word == kJson) return OtlpFormat::kJson;
  return std::nullopt;
}

void Respond(Ticket* ticket, OtlpFormat format, int status, std::string body) {
  http::HttpResponse response{status, {}, std::move(body), format == OtlpFormat::kJson ? kJson : kProtobuf};
  if (status == 503) response.headers.emplace_back("Retry-After", std::to_string(kRetrySeconds));
  ticket->Respond(std::move(response));
}

}  // namespace

SpansTaken TakeSpans(const Ticket& ticket, OtlpFormat format, std::string_view body) {
  Recorder& recorder = *ticket.services().recorder;
  if (!recorder.on()) return {501, 0, "this server has no catalog, so there is nowhere to keep spans"};
  const auto batch = DecodeOtlp(format, body, trace::OtlpParts::kIds);
  if (!batch.ok()) return {400, 0, batch.status().ToString()};
  if (!batch->spans.empty()) {
    const Caller& caller = ticket.caller();
    const std::string record = trace::SpansRecord({format, caller.arrived_us, caller.key.id, caller.key.name,
                                                   std::string(ticket.request().Header("user-agent"))},
                                                  body);
    if (!recorder.Write(trace::Kind::kOtlp, record))
      return {503, 0, "the spans could not be written: " + recorder.stats().trouble};
  }
  return {200, batch->rejected, batch->why};
}

void Spans(const std::shared_ptr<Ticket>& ticket) {
  const http::HttpRequest& request = ticket->request();
  const auto format = FormatOf(request.Header("content-type"));
  if (!format)
    return Respond(ticket.get(), OtlpFormat::kJson, 415,
                   OtlpError(OtlpFormat::kJson, kInvalidArgument,
                             std::string("spans come as ") + kProtobuf + " or " + kJson));
  const SpansTaken taken = TakeSpans(*ticket, *format, request.body);
  if (taken.status == 200)
    return Respond(ticket.get(), *format, 200, OtlpAnswer(*format, taken.rejected, taken.why));
  const int code = taken.status == 400   ? kInvalidArgument
                   : taken.status == 501 ? kUnimplemented
                                         : kUnavailable;
  Respond(ticket.get(), *format, taken.status, OtlpError(*format, code, taken.why));
}

}  // namespace headrace::serve
