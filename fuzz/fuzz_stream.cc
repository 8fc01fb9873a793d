// What a stream reads that others may have written: checkpoints, image steps, bitmaps of selected rows.
#include <cstdint>
#include <string>
#include <string_view>

#include "stream/image_ops.h"
#include "stream/selection.h"
#include "stream/sequence.h"
#include "stream/state.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace::stream;
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0: {
      const auto state = State::FromJson(text);
      if (!state.ok()) break;
      if (State::FromJson(state->ToJson()).value() != *state) __builtin_trap();
      const Layout& layout = state->sources[0].layout;
      if (layout.lanes > 5000) break;
      const EpochOrder order(layout, state->seed, state->point.epoch);
      const int64_t ordinal = order.Ordinal(state->point.position % layout.rows);
      if (ordinal < 0 || ordinal >= layout.rows) __builtin_trap();
      break;
    }
    case 1: {
      const auto ops = ImageOps::Parse(text);
      if (ops.ok()) (void)ops->Draw(640, 480, 7);
      break;
    }
    default: {
      const auto set = RowSet::Parse(text, 1 << 20, static_cast<int64_t>(text.size()) % 5 + 1);
      if (set.ok()) (void)(*set)->Select(0);
    }
  }
  return 0;
}
