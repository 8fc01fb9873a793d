#include "api/grpc.h"

#include <algorithm>
#include <protozero/pbf_writer.hpp>

#include "base/utf8.h"

namespace headrace::api {
namespace {

constexpr size_t kPrefix = 5;         // bytes before a message: whether it is packed, and its length
constexpr size_t kTimeoutDigits = 8;  // at most

}  // namespace

GrpcCode GrpcCodeOf(int http_status) {
  switch (http_status) {
    case 200:
      return GrpcCode::kOk;
    case 400:
      return GrpcCode::kInvalidArgument;
    case 401:
      return GrpcCode::kUnauthenticated;
    case 403:
      return GrpcCode::kPermissionDenied;
    case 404:
    case 405:
    case 415:
    case 501:
      return GrpcCode::kUnimplemented;
    case 408:
      return GrpcCode::kDeadlineExceeded;
    case 413:
    case 429:
    case 431:
      return GrpcCode::kResourceExhausted;
    case 503:
      return GrpcCode::kUnavailable;
    default:
      return GrpcCode::kInternal;
  }
}

Result<GrpcMessage> ReadGrpcMessage(std::string_view body) {
  if (body.empty()) return Status::Unsupported("the call has no message, and takes one");
  if (body.size() < kPrefix) return Status::Invalid("the message is cut");
  const auto byte = [&](size_t at) { return static_cast<uint32_t>(static_cast<unsigned char>(body[at])); };
  const uint32_t flag = byte(0);
  const uint32_t size = byte(1) << 24 | byte(2) << 16 | byte(3) << 8 | byte(4);
  if (flag > 1) return Status::Invalid("a message begins with 0 or 1, not " + std::to_string(flag));
  body.remove_prefix(kPrefix);
  if (body.size() < size)
    return Status::Invalid("the message is cut: " + std::to_string(body.size()) + " bytes of " +
                           std::to_string(size));
  if (body.size() > size) return Status::Unsupported("the call has several messages, and takes one");
  return GrpcMessage{flag == 1, body};
}

std::string GrpcFrame(std::string_view message) {
  std::string out(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(message.size() >> shift & 0xff);
  return out.append(message);
}

std::optional<double> GrpcTimeout(std::string_view text) {
  if (text.size() < 2 || text.size() > kTimeoutDigits + 1) return std::nullopt;
  double number = 0;
  for (const char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + (c - '0');
  }
  switch (text.back()) {
    case 'H':
      return number * 3600;
    case 'M':
      return number * 60;
    case 'S':
      return number;
    case 'm':
      return number / 1e3;
    case 'u':
      return number / 1e6;
    case 'n':
      return number / 1e9;
    default:
      return std::nullopt;
  }
}

std::string GrpcText(std::string_view text, size_t most) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if (out.size() + 3 > most) break;
    if (c >= ' ' && c <= '~' && c != '%') {
      out += c;
    } else {
      const auto value = static_cast<unsigned char>(c);
      out += '%';
      out += kDigits[value >> 4];
      out += kDigits[value & 15];
    }
  }
  return out;
}

std::string GrpcRetryInfo(int seconds) {
  std::string delay, info;
  protozero::pbf_writer(delay).add_int64(1, seconds);
  protozero::pbf_writer(info).add_message(1, delay);
  return info;
}

std::string GrpcStatus(GrpcCode code, std::string_view message, int retry_seconds) {
  std::string out;
  protozero::pbf_writer status(out);
  status.add_int32(1, static_cast<int>(code));
  status.add_string(2, CleanUtf8(std::string(message)));
  if (retry_seconds >= 0) {
    std::string any;
    protozero::pbf_writer writer(any);
    writer.add_string(1, "type.googleapis.com/google.rpc.RetryInfo");
    writer.add_bytes(2, GrpcRetryInfo(retry_seconds));
    status.add_message(3, any);
  }
  return out;
}

}  // namespace headrace::api
