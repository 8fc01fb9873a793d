#include "engine/grammar_queue.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "base/clock.h"

namespace headrace::engine {
namespace {

constexpr std::chrono::milliseconds kLook(50);  // between looks at those that wait

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
  looker_ = std::thread([this] { LookAfter(); });
}

GrammarQueue::~GrammarQueue() {
  Stop();
  compiler_.join();
  looker_.join();
}

Status GrammarQueue::Add(std::shared_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Status::Cancelled("the engine is shutting down");
    std::set<Structure> different{job->request.structure};
    for (const auto& other : waiting_) different.insert(other->request.structure);
    if (waiting_.size() >= limits_.requests || different.size() > limits_.structures)
      return Status::Unavailable(std::to_string(waiting_.size()) + " requests with " +
                                 std::to_string(different.size() - 1) +
                                 " schemas or grammars wait for these to be compiled; try again");
    waiting_.push_back(std::move(job));
  }
  wake_.notify_all();
  return Status::Ok();
}

void GrammarQueue::Stop() {
  std::vector<std::shared_ptr<Job>> left;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    left.swap(waiting_);
  }
  wake_.notify_all();
  for (const auto& job : left) Fail(job.get(), Status::Cancelled("the engine is shutting down"));
}

std::vector<std::shared_ptr<Job>> GrammarQueue::TakeAll(const Structure& structure) {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Job>> taken, left;
  for (auto& job : waiting_)
    (Same(job->request.structure, structure) ? taken : left).push_back(std::move(job));
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
      structure = waiting_.front()->request.structure;
    }
    const auto compiled = compile_(structure);
    for (auto& job : TakeAll(structure)) {
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

void GrammarQueue::LookAfter() {
  pthread_setname_np(pthread_self(), "hr-grammar-time");
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    wake_.wait_for(lock, kLook, [&] { return stopping_; });
    const double now = MonotonicSeconds();
    std::vector<std::shared_ptr<Job>> over, late, left;
    for (auto& job : waiting_) {
      const bool ended =
          job->cancelled.load(std::memory_order_relaxed) || (job->deadline > 0 && now >= job->deadline);
      (ended ? over : now >= job->submitted + limits_.seconds ? late : left).push_back(std::move(job));
    }
    waiting_ = std::move(left);
    lock.unlock();
    for (auto& job : over) give_(std::move(job));
    for (const auto& job : late)
      Fail(job.get(), Status::Unavailable("the schema or grammar was not compiled within " +
                                          std::to_string(static_cast<int>(limits_.seconds)) +
                                          " s; make it smaller, or try again"));
    lock.lock();
  }
}

}  // namespace headrace::engine
