// Calls of tools in an answer's text, whole and piece by piece: what a stream tells is never taken back, and
// in all it is what the assembled message holds.
#include <cstdlib>

#include "api/answer.h"
#include "api/tool_calls.h"
#include "api/writer.h"

using namespace headrace;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 4096) return 0;
  const size_t step = 1 + data[0] % 16;
  const auto dialect = static_cast<api::Dialect>(data[1] % 4);
  const std::shared_ptr<const model::AnswerFormat> format =
      data[1] & 4 ? api::TaggedCalls() : api::EnforcedCalls();
  const std::string text(reinterpret_cast<const char*>(data) + 2, size - 2);
  api::Assembler assembler(0, format, [] { return std::string("call"); });
  api::Call call;
  call.dialect = dialect;
  call.prompts = {std::string("p")};
  const auto writer =
      api::Writer::Make(call, {"id", "m", 0, [](model::Token) { return std::string_view(); }});
  std::string stream = writer->Begin(1), content;
  for (size_t at = 0; at <= text.size(); at += step) {
    engine::Delta delta;
    delta.text = text.substr(at, step);
    if (at + step > text.size()) delta.finish = engine::Finish::kEnd;
    const auto events = assembler.Add(std::move(delta));
    for (const auto& event : events)
      if (event.kind == api::Event::Kind::kText) content += event.text;
    stream += writer->Say(assembler.choice(), events, 0);
  }
  if (content != assembler.choice().message.content) abort();
  stream += writer->EndChoice(assembler.choice()) + writer->End({assembler.choice()});
  if (!stream.ends_with("\n\n")) abort();
  (void)writer->Whole({assembler.choice()});
  return 0;
}
