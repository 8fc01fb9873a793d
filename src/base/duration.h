// Lengths of time as people write them: "30d", "12 h", "90s", "for ever".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headrace {

// Microseconds. A number, whole or with a point, and a unit: us, ms, s, m (or min), h, d, w, y (365 days), or
// their names. Invalid for others, for negative ones and for more than 10,000 years.
Result<int64_t> ParseDuration(std::string_view text);

// "30 days", "1 hour", "1.5 s": in the largest unit that needs no more than three digits after the point.
std::string FormatDuration(int64_t micros);

}  // namespace headrace
