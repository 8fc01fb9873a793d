// Wall and monotonic time, and their text forms (ISO 8601, UTC).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headrace {

// Microseconds since 1970-01-01T00:00:00Z. May jump: use it for records, never for waiting.
int64_t NowMicros();
// Seconds of a clock that never runs backwards.
double MonotonicSeconds();

// "2026-11-22T08:15:30.123456Z".
std::string FormatMicros(int64_t micros);
// Accepts "2026-11-22", "2026-11-22T08:15", "2026-11-22 08:15:30.5" with an optional Z or ±hh:mm; no zone
// means UTC.
Result<int64_t> ParseMicros(std::string_view text);

}  // namespace headrace
