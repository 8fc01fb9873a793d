// How fast this machine reads memory: what a step of one row waits for, since it reads all weights once.
#pragma once

#include <cstddef>
#include <functional>

namespace headrace::engine {

// Bytes per second that `threads` (at least one) read together, from `bytes` of memory: the best of a few
// passes, since neighbours only slow them down. 64 MB take 20 to 60 ms, most of it for the pages. Where a
// last-level cache holds them all, the figure is that cache's. `clock` gives seconds.
double MeasureMemorySpeed(int threads, const std::function<double()>& clock, size_t bytes = 64 << 20);

}  // namespace headrace::engine
