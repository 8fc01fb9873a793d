#include "model/thread_pool.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>

namespace headrace::model {
namespace {

// The CPU backend is loaded at run time, so its functions are found by name.
template <class Function>
Function Find(const char* name) {
  const ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (cpu == nullptr) return nullptr;
  return reinterpret_cast<Function>(
      ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), name));
}

}  // namespace

void FreeThreadPool::operator()(ggml_threadpool* pool) const {
  static const auto free = Find<decltype(&ggml_threadpool_free)>("ggml_threadpool_free");
  if (free != nullptr) free(pool);
}

ThreadPool NewThreadPool(int threads) {
  static const auto make = Find<decltype(&ggml_threadpool_new)>("ggml_threadpool_new");
  if (make == nullptr) return nullptr;
  ggml_threadpool_params params = ggml_threadpool_params_default(threads);
  params.poll = 0;
  return ThreadPool(make(&params));
}

}  // namespace headrace::model
