// grpc: what gRPC puts into HTTP/2 (grpc.io, "gRPC over HTTP2"): messages with their length, statuses, times.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headrace::api {

// google.rpc.Code, as far as it is said here.
enum class GrpcCode {
  kOk = 0,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kUnauthenticated = 16,
};

// The code that says the same as a status of HTTP.
GrpcCode GrpcCodeOf(int http_status);

struct GrpcMessage {
  bool packed = false;  // in the encoding that grpc-encoding names
  std::string_view bytes;
};
// The one message of a unary call. kUnsupported: there are several, or there is none; kInvalid: it is cut, or
// its first byte is neither 0 nor 1.
Result<GrpcMessage> ReadGrpcMessage(std::string_view body);
// A message as it is sent, not packed.
std::string GrpcFrame(std::string_view message);

// Seconds of a grpc-timeout, like "100m"; nothing where it is none.
std::optional<double> GrpcTimeout(std::string_view text);

// Text as grpc-message has it: all but printable ASCII percent-encoded, at most so many bytes of it.
std::string GrpcText(std::string_view text, size_t most = 1024);

// A google.rpc.Status. `retry_seconds`: a google.rpc.RetryInfo among its details; below 0 for none.
std::string GrpcStatus(GrpcCode code, std::string_view message, int retry_seconds = -1);
// That RetryInfo alone.
std::string GrpcRetryInfo(int seconds);

}  // namespace headrace::api
