// Progress of long work, told to whoever wants to draw it (the command line draws bars; Python ignores it by
// default).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace headrace {

struct Progress {
  std::string what;    // "reading photographs"
  int64_t done = 0;    // units finished
  int64_t total = -1;  // units in all, -1 where not known yet
  int64_t bytes = 0;   // bytes moved so far
  int64_t errors = 0;  // things that could not be taken in
};

// Called from the working thread, at most some tens of times a second; must return quickly.
using ProgressFn = std::function<void(const Progress&)>;

}  // namespace headrace
