// The version of this program and its libraries, as CMakeLists.txt states it.
#pragma once

#include <string_view>

namespace headrace {

// "0.1.0"
std::string_view Version();

}  // namespace headrace
