#include "serve/grpc.h"

#include <cmath>

#include "api/grpc.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "http/gzip.h"
#include "serve/spans.h"
#include "trace/otlp.h"

namespace headrace::serve {
namespace {

using api::GrpcCode;

constexpr char kType[] = "application/grpc";
constexpr char kExport[] = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
constexpr char kEncodings[] = "identity,gzip";

using Headers = std::vector<std::pair<std::string, std::string>>;

// Binary metadata is base64 without padding.
std::string Binary(std::string_view bytes) {
  std::string text = EncodeBase64(bytes);
  while (text.ends_with('=')) text.pop_back();
  return text;
}

http::HttpResponse Ended(GrpcCode code, const std::string& message, double retry_after, Headers headers) {
  headers.emplace_back("grpc-status", std::to_string(static_cast<int>(code)));
  headers.emplace_back("grpc-message", api::GrpcText(message));
  headers.emplace_back("grpc-accept-encoding", kEncodings);
  if (retry_after > 0) {
    const int seconds = static_cast<int>(std::ceil(retry_after));
    headers.emplace_back("grpc-status-details-bin", Binary(api::GrpcStatus(code, message, seconds)));
    headers.emplace_back("google.rpc.retryinfo-bin", Binary(api::GrpcRetryInfo(seconds)));  // Python's SDK
  }
  return {200, std::move(headers), "", kType};
}

// A packed message as it was before.
Result<std::string> Unpacked(const http::HttpRequest& request, std::string_view message, int64_t most) {
  if (request.Header("grpc-encoding") != "gzip")
    return Status::Invalid("the message is packed, and grpc-encoding does not say how");
  return http::Gunzip(message, most);
}

// TraceService/Export. Called on a worker.
void Export(const Asked& asked) {
  Ticket& ticket = *asked.ticket;
  const http::HttpRequest& request = ticket.request();
  const auto refuse = [&](int status, GrpcCode code, const std::string& message, double retry_after = 0) {
    ticket.Respond(Ended(code, message, retry_after, {}), status);
  };
  const std::string_view encoding = request.Header("grpc-encoding"), timeout = request.Header("grpc-timeout");
  if (!encoding.empty() && encoding != "identity" && encoding != "gzip")
    return refuse(415, GrpcCode::kUnimplemented,
                  "messages in the encoding '" + std::string(encoding.substr(0, 64)) +
                      "' are not read here: send them as they are, or in gzip");
  const std::optional<double> seconds = timeout.empty() ? INFINITY : api::GrpcTimeout(timeout);
  if (!seconds)
    return refuse(400, GrpcCode::kInternal,
                  "'" + std::string(timeout.substr(0, 64)) + "' is no grpc-timeout");
  const auto message = api::ReadGrpcMessage(request.body);
  if (!message.ok())
    return refuse(
        400, message.status().Is(Code::kUnsupported) ? GrpcCode::kUnimplemented : GrpcCode::kInvalidArgument,
        message.status().message());
  const auto unpacked =
      message->packed ? Unpacked(request, message->bytes, ticket.services().max_body) : std::string();
  if (!unpacked.ok()) {
    const bool large = unpacked.status().Is(Code::kLimit);
    return refuse(large ? 413 : 400, large ? GrpcCode::kResourceExhausted : GrpcCode::kInternal,
                  unpacked.status().message());
  }
  // Its sender does not wait any more, and may send it again.
  if (MonotonicSeconds() - ticket.caller().arrived >= *seconds)
    return refuse(408, GrpcCode::kDeadlineExceeded, "the call's deadline has passed");
  const SpansTaken taken =
      TakeSpans(ticket, trace::OtlpFormat::kProtobuf, message->packed ? *unpacked : message->bytes);
  if (taken.status != 200)
    return refuse(taken.status, api::GrpcCodeOf(taken.status), taken.why,
                  taken.status == 503 ? kRetrySeconds : 0);
  ticket.Respond({200,
                  {{"grpc-accept-encoding", kEncodings}},
                  api::GrpcFrame(OtlpAnswer(trace::OtlpFormat::kProtobuf, taken.rejected, taken.why)),
                  kType,
                  {{"grpc-status", "0"}}});
}

constexpr Route kExportRoute = {"POST", kExport, kExport, "record", Runs::kWorker, Export};

}  // namespace

Match FindCall(std::string_view method, std::string_view path) {
  Match match;
  if (path != kExport) return match;
  match.name = kExportRoute.name;
  match.allowed = kExportRoute.method;
  if (method == kExportRoute.method) match.route = &kExportRoute;
  return match;
}

std::optional<http::HttpResponse> NoCall(const http::HttpRequest& head) {
  const std::string type = AsciiLower(head.Header("content-type"));
  const std::string kind = type.substr(0, type.find_first_of("; "));
  if (kind == kType || kind == std::string(kType) + "+proto") return std::nullopt;
  const std::string message = "this port takes gRPC: its content-type is application/grpc, in protobuf";
  http::HttpResponse response = Ended(GrpcCode::kInternal, message, 0, {});
  response.status = 415;
  return response;
}

http::HttpResponse CallFault(const api::Fault& fault, Headers headers) {
  return Ended(api::GrpcCodeOf(fault.status), fault.message, fault.retry_after, std::move(headers));
}

}  // namespace headrace::serve
