// Bodies of the server's APIs: read, or refused with a reason; never a crash.
#include <cstdlib>

#include "api/call.h"

using namespace headrace::api;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const int kind = data[0] % 11;
  std::optional<Fault> fault;
  if (kind < 4 || kind == 8) {
    Call call;
    fault = ParseCall(kind == 8 ? Dialect::kNative : static_cast<Dialect>(kind), body, &call);
    if (!fault && call.messages.empty() && call.prompts.empty()) abort();
  } else if (kind == 9) {
    Call call;
    fault = ParseDefaults(body, &call);
  } else if (kind == 10) {
    QueueCall call;
    fault = ParseQueue(body, static_cast<QueueAction>(size % 3), &call);
  } else if (kind == 4) {
    EmbeddingsCall call;
    fault = ParseEmbeddings(body, &call);
  } else if (kind == 5) {
    RerankCall call;
    fault = ParseRerank(body, &call);
  } else if (kind == 6) {
    TokenizeCall call;
    fault = ParseTokenize(body, size % 2 == 0, &call);
  } else {
    ScoreCall call;
    fault = ParseScore(body, &call);
  }
  if (fault && (fault->message.empty() || OpenAiError(*fault).empty())) abort();
  return 0;
}
