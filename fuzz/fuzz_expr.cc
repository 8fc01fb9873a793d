// The filter language's parser, and that canonical text reads back.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "table/expr.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = headrace::table::ParseExpr(text);
  if (!parsed.ok()) return 0;
  const std::string canonical = ToString(**parsed);
  if (canonical.size() > 100'000) return 0;
  const auto again = headrace::table::ParseExpr(canonical);
  // Parentheses of the canonical text may nest deeper than what was written.
  if (again.ok() && ToString(**again) != canonical) abort();
  return 0;
}
