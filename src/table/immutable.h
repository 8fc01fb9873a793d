// Which objects of a catalog a cache may keep.
#pragma once

#include <string_view>

namespace headrace::table {

// Whether the object of this key never changes as long as it is there, and its name is never given again.
bool IsImmutable(std::string_view key);

}  // namespace headrace::table
