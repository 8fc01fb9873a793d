// What belongs to one process alone although a fork gets all of it.
#pragma once

#include <cstdint>

namespace headrace {

// Goes up in every child of a fork: whoever notes it knows later whether it is still in the process that it
// was made in. No system call.
uint64_t ForkGeneration();

// In a child, this descriptor will stand for /dev/null: a lock that it holds is then its parent's alone, and
// ends with it. Until ForgetInChild, which comes before the descriptor is closed. Thread-safe.
void CloseInChild(int fd);
void ForgetInChild(int fd);

}  // namespace headrace
