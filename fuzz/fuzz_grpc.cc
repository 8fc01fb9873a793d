// What gRPC's callers put around messages and into headers: read, or refused; what is read is what was
// written.
#include <cstdlib>

#include "api/grpc.h"

using namespace headrace::api;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto message = ReadGrpcMessage(text);
  if (message.ok()) {
    if (message->bytes.size() + 5 != size) abort();
    if (!message->packed && GrpcFrame(message->bytes) != text) abort();
  }
  const std::string frame = GrpcFrame(text);
  const auto framed = ReadGrpcMessage(frame);
  if (!framed.ok() || framed->packed || framed->bytes != text) abort();
  if (const auto seconds = GrpcTimeout(text); seconds && !(*seconds >= 0 && *seconds < 4e11)) abort();
  const std::string told = GrpcText(text, 100);
  if (told.size() > 100) abort();
  for (const char c : told)
    if (c < ' ' || c > '~') abort();
  if (GrpcStatus(GrpcCode::kUnavailable, text, 5).size() < 4) abort();
  return 0;
}
