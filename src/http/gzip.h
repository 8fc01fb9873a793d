// gzip (RFC 1952): bodies that clients compress.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace headrace::http {

// The bytes of all members, one after another. kLimit: there are more than `most`; kInvalid: this is not
// gzip, or is damaged or cut.
Result<std::string> Gunzip(std::string_view packed, int64_t most);

}  // namespace headrace::http
