// threads: how many threads the trainer's loops and products use.
#pragma once

namespace headrace::nn {

// Of the calling thread's operations, from now on: 1 or more. Without it: the processors that the process may
// run on, or OMP_NUM_THREADS.
void UseThreads(int count);
int ThreadsInUse();

}  // namespace headrace::nn
