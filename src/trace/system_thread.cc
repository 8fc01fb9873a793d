#include "trace/system_thread.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

#include "base/clock.h"

namespace headrace::trace {
namespace {

constexpr std::chrono::seconds kSampleEach(1);
constexpr double kSummaryEach = 10;            // seconds
constexpr std::chrono::seconds kHungAfter(2);  // a sample that takes longer is not waited for at the end
constexpr int kSamplerNice = 10;

}  // namespace

struct SystemThread::State {
  std::unique_ptr<SystemSampler> sampler;
  double began = MonotonicSeconds();
  std::mutex mutex;
  std::condition_variable wake;
  Sink sink;  // under the mutex; empty once it was stopped
  bool stopping = false, ended = false;

  void GiveLocked() {
    if (!sink) return;
    for (const std::string& said : sampler->TakeSaid()) std::fprintf(stderr, "headrace: %s\n", said.c_str());
    const auto figures = sampler->Take();
    if (!figures.empty()) sink(MonotonicSeconds() - began, figures);
  }
};

Result<std::unique_ptr<SystemThread>> SystemThread::Start(const SystemOptions& options, Sink sink) {
  auto state = std::make_shared<State>();
  HEADRACE_ASSIGN(state->sampler, SystemSampler::Create(options));
  state->sink = std::move(sink);
  // Detached, because a driver may hang for ever; it owns what it uses.
  std::thread([state] {
    pthread_setname_np(pthread_self(), "hr-system");
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kSamplerNice);
    double given = MonotonicSeconds();
    std::unique_lock lock(state->mutex);
    while (!state->stopping) {
      lock.unlock();
      state->sampler->Sample();
      lock.lock();
      if (MonotonicSeconds() - given >= kSummaryEach) {
        state->GiveLocked();
        given = MonotonicSeconds();
      }
      state->wake.wait_for(lock, kSampleEach, [&] { return state->stopping; });
    }
    state->ended = true;
    state->wake.notify_all();
  }).detach();
  return std::unique_ptr<SystemThread>(new SystemThread(std::move(state)));
}

SystemThread::~SystemThread() {
  const std::lock_guard lock(state_->mutex);
  state_->sink = nullptr;
  state_->stopping = true;
  state_->wake.notify_all();
}

void SystemThread::Stop() {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->wake.notify_all();
  state_->wake.wait_for(lock, kHungAfter, [&] { return state_->ended; });
  state_->GiveLocked();
  state_->sink = nullptr;
}

}  // namespace headrace::trace
