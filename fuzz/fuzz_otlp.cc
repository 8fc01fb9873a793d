// What a sender of spans may send: decoded or refused, and what was decoded is rows of a batch, whose texts
// that should be JSON are.
#include <cstdlib>

#include "trace/columns.h"
#include "trace/span_rows.h"

using namespace headrace;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const auto format = data[0] % 2 == 0 ? trace::OtlpFormat::kProtobuf : trace::OtlpFormat::kJson;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto batch = trace::DecodeOtlp(format, body);
  const auto ids = trace::DecodeOtlp(format, body, trace::OtlpParts::kIds);
  if (ids.ok() != batch.ok() ||
      (ids.ok() && (ids->spans.size() != batch->spans.size() || ids->why != batch->why)))
    abort();
  std::vector<nlohmann::json> rows, media;
  const bool read = trace::AddSpans(trace::SpansRecord({format, 1, "k", "n", "c"}, body), &rows, &media);
  if (read != batch.ok() || (read && rows.size() != batch->spans.size())) abort();
  for (const nlohmann::json& row : rows)
    for (const char* name :
         {"attributes", "resource", "events", "links", "media", "input", "tool_calls", "sampling"})
      if (row.contains(name) && !nlohmann::json::accept(row[name].get_ref<const std::string&>())) abort();
  if (!trace::ToBatch(trace::TraceColumns(), rows).ok() || !trace::ToBatch(trace::MediaColumns(), media).ok())
    abort();
  return 0;
}
