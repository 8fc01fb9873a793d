// Sizes as people write them.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace headrace {

// "500MB", "1.5 GiB", "8g", "4096": bytes. K, M, G and T are powers of 1000, with an i of 1024; the B may be
// left out, case and blanks do not count. Invalid for anything else, for what is negative and above 2^63 - 1.
Result<int64_t> ParseByteSize(std::string_view text);

}  // namespace headrace
