// The user's cache folder. Everything in it can be made again.
#pragma once

#include <cstdlib>
#include <string>

namespace headrace {

// HEADRACE_CACHE, else ~/.cache/headrace, and `name` in it; "" where neither is known.
inline std::string CacheFolder(const std::string& name) {
  if (const char* cache = getenv("HEADRACE_CACHE"); cache != nullptr && *cache != '\0')
    return std::string(cache) + "/" + name;
  if (const char* home = getenv("HOME"); home != nullptr && *home != '\0')
    return std::string(home) + "/.cache/headrace/" + name;
  return "";
}

}  // namespace headrace
