#include "nn/threads.h"

#include "base/check.h"

// OpenMP's; its header comes with each compiler, and not with clang-tidy.
extern "C" {
void omp_set_num_threads(int count);
int omp_get_max_threads();
}

namespace headrace::nn {

void UseThreads(int count) {
  HEADRACE_CHECK(count >= 1);
  omp_set_num_threads(count);
}

int ThreadsInUse() { return omp_get_max_threads(); }

}  // namespace headrace::nn
