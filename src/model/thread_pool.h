// The threads that compute a context's steps on the CPU. Seen by the .cc files of this folder only.
#pragma once

#include <memory>

struct ggml_threadpool;

namespace headrace::model {

struct FreeThreadPool {
  void operator()(ggml_threadpool* pool) const;
};
using ThreadPool = std::unique_ptr<ggml_threadpool, FreeThreadPool>;

// Threads that sleep between steps, without polling: a waiting engine costs nothing, and a busy neighbour
// gets its core. Null where the CPU backend is not loaded.
ThreadPool NewThreadPool(int threads);

}  // namespace headrace::model
