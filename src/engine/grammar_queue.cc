#include "engine/grammar_queue.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/clock.h"

namespace headrace::engine {
namespace {

bool Same(const Structure& a, const Structure& b) { return !(a < b) && !(b < a); }

void Fail(Job* job, Status why) {
  Delta delta;
  delta.finish = Finish::kError;
  delta.error = std::move(why);
  delta.usage.grammar_seconds = MonotonicSeconds() - job->submitted;
  job->sink(std::move(delta));
}

}  // namespace

GrammarQueue::GrammarQueue(Compile compile, Give give, GrammarLimits limits)
    : compile_(std::move(compile)), give_(std::move(give)), limits_(limits) {
  compiler_ = std::thread([this] { CompileAll(); });
  ender_ = std::thread([this] { EndOverdue(); });
}

GrammarQueue::~GrammarQueue() {
  Stop();
  compiler_.join();
  ender_.join();
}

Status GrammarQueue::Add(std::shared_ptr<Job> job) {
  auto on_cancel = std::make_unique<StopCallback>(job->cancel.token(), [this] { LookAgain(); });
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Status::Cancelled("the engine is shutting down");
    std::set<Structure> different{job->request.structure};
    for (const auto& other : waiting_) different.insert(other.job->request.structure);
    if (waiting_.size() >= limits_.requests || different.size() > limits_.structures)
      return Status::Unavailable(std::to_string(waiting_.size()) + " requests with " +
                                 std::to_string(different.size() - 1) +
                                 " schemas or grammars wait for these to be compiled; try again");
    waiting_.push_back({std::move(job), std::move(on_cancel)});
    look_ = true;
  }
  wake_.notify_all();
  return Status::Ok();
}

void GrammarQueue::Stop() {
  std::vector<Waiter> left;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    left.swap(waiting_);
  }
  wake_.notify_all();
  for (const auto& waiter : left) Fail(waiter.job.get(), Status::Cancelled("the engine is shutting down"));
}

void GrammarQueue::LookAgain() {
  {
    const std::lock_guard lock(mutex_);
    look_ = true;
  }
  wake_.notify_all();
}

// When it need not wait any longer, whatever is compiled (monotonic seconds).
double GrammarQueue::EndOf(const Job& job) const {
  const double patience = job.submitted + limits_.seconds;
  return job.deadline > 0 ? std::min(job.deadline, patience) : patience;
}

std::vector<GrammarQueue::Waiter> GrammarQueue::TakeAll(const Structure& structure) {
  const std::lock_guard lock(mutex_);
  std::vector<Waiter> taken, left;
  for (auto& waiter : waiting_)
    (Same(waiter.job->request.structure, structure) ? taken : left).push_back(std::move(waiter));
  waiting_ = std::move(left);
  return taken;
}

void GrammarQueue::CompileAll() {
  pthread_setname_np(pthread_self(), "hr-grammar");
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)),
              10);  // of this thread alone: the steps come first
  for (;;) {
    Structure structure;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      structure = waiting_.front().job->request.structure;
    }
    const auto compiled = compile_(structure);
    for (auto& [job, on_cancel] : TakeAll(structure)) {
      job->usage.grammar_seconds = MonotonicSeconds() - job->submitted;
      if (compiled.ok()) {
        job->grammar = *compiled;
        give_(std::move(job));
      } else {
        Fail(job.get(), compiled.status());
      }
    }
  }
}

void GrammarQueue::EndOverdue() {
  pthread_setname_np(pthread_self(), "hr-grammar-time");
  std::unique_lock lock(mutex_);
  for (;;) {
    double end = HUGE_VAL;
    for (const auto& waiter : waiting_) end = std::min(end, EndOf(*waiter.job));
    const auto woken = [&] { return stopping_ || look_; };
    if (waiting_.empty()) {
      wake_.wait(lock, woken);
    } else {
      wake_.wait_for(lock, WaitDuration(end - MonotonicSeconds()), woken);
    }
    if (stopping_) return;
    look_ = false;
    const double now = MonotonicSeconds();
    std::vector<Waiter> over, late, left;
    for (auto& waiter : waiting_) {
      const Job& job = *waiter.job;
      const bool ended = job.cancel.stopped() || (job.deadline > 0 && now >= job.deadline);
      (ended ? over : now >= EndOf(job) ? late : left).push_back(std::move(waiter));
    }
    waiting_ = std::move(left);
    lock.unlock();
    for (auto& waiter : over) give_(std::move(waiter.job));
    for (const auto& waiter : late)
      Fail(waiter.job.get(), Status::Unavailable("the schema or grammar was not compiled within " +
                                                 std::to_string(static_cast<int>(limits_.seconds)) +
                                                 " s; make it smaller, or try again"));
    over.clear();
    late.clear();
    lock.lock();
  }
}

}  // namespace headrace::engine
