#include "base/forks.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

namespace headrace {
namespace {

std::atomic<uint64_t> generation{0};

struct Registry {
  std::mutex mutex;
  std::vector<int> fds;
  int null = -1;
};

// Never destroyed: a child may come from an exit handler.
Registry* Registered() {
  static Registry* const registry = [] {
    auto* made = new Registry;
    made->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    return made;
  }();
  return registry;
}

void Before() { Registered()->mutex.lock(); }
void InParent() { Registered()->mutex.unlock(); }
void InChild() {
  Registry* registry = Registered();
  generation.fetch_add(1, std::memory_order_relaxed);
  for (const int fd : registry->fds) dup3(registry->null, fd, O_CLOEXEC);
  registry->fds.clear();
  registry->mutex.unlock();
}

void Watch() {
  static const bool watching = [] {
    Registered();
    return pthread_atfork(Before, InParent, InChild) == 0;
  }();
  (void)watching;
}

}  // namespace

uint64_t ForkGeneration() {
  Watch();
  return generation.load(std::memory_order_relaxed);
}

void CloseInChild(int fd) {
  Watch();
  const std::lock_guard lock(Registered()->mutex);
  Registered()->fds.push_back(fd);
}

void ForgetInChild(int fd) {
  const std::lock_guard lock(Registered()->mutex);
  std::erase(Registered()->fds, fd);
}

}  // namespace headrace
