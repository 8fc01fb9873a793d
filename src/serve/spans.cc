#include "serve/spans.h"

#include <optional>

#include "base/utf8.h"
#include "trace/span_rows.h"

namespace headrace::serve {
namespace {

using trace::OtlpFormat;

constexpr const char* kProtobuf = "application/x-protobuf";
constexpr const char* kJson = "application/json";
constexpr int kRetrySeconds = 5;
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

void Spans(const std::shared_ptr<Ticket>& ticket) {
  const http::HttpRequest& request = ticket->request();
  Recorder& recorder = *ticket->services().recorder;
  const auto format = FormatOf(request.Header("content-type"));
  if (!format)
    return Respond(ticket.get(), OtlpFormat::kJson, 415,
                   OtlpError(OtlpFormat::kJson, kInvalidArgument,
                             std::string("spans come as ") + kProtobuf + " or " + kJson));
  const auto refuse = [&](int status, int code, const std::string& message) {
    Respond(ticket.get(), *format, status, OtlpError(*format, code, message));
  };
  if (!recorder.on())
    return refuse(501, kUnimplemented, "this server has no catalog, so there is nowhere to keep spans");
  const auto batch = DecodeOtlp(*format, request.body, trace::OtlpParts::kIds);
  if (!batch.ok()) return refuse(400, kInvalidArgument, batch.status().ToString());
  if (!batch->spans.empty()) {
    const Caller& caller = ticket->caller();
    const std::string record = trace::SpansRecord({*format, caller.arrived_us, caller.key.id, caller.key.name,
                                                   std::string(request.Header("user-agent"))},
                                                  request.body);
    if (!recorder.Write(trace::Kind::kOtlp, record))
      return refuse(503, kUnavailable, "the spans could not be written: " + recorder.stats().trouble);
  }
  Respond(ticket.get(), *format, 200, OtlpAnswer(*format, batch->rejected, batch->why));
}

}  // namespace headrace::serve
