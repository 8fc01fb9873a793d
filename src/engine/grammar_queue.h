// GrammarQueue: requests that wait for their grammar. One thread compiles (a slow grammar delays only those
// whose own was never compiled before), another ends those that need not wait for it, since a
// compilation cannot be interrupted: who hung up, whose deadline passed, and who waits too long. It sleeps
// until a request is cancelled or the next of these times comes.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/cancel.h"
#include "engine/core.h"
#include "engine/grammar.h"

namespace headrace::engine {

struct GrammarLimits {
  double seconds = 60;     // that a request waits at most
  size_t requests = 1024;  // that wait at once
  size_t structures = 64;  // different ones among them
};

class GrammarQueue {
 public:
  using Compile = std::function<Result<std::shared_ptr<const CompiledGrammar>>(const Structure&)>;
  using Give = std::function<void(std::shared_ptr<Job>)>;
  // `give` gets those whose grammar is there, and those that are over before it is (cancelled, out of time):
  // the core says so. The others get an error. Both on a thread of this queue.
  GrammarQueue(Compile compile, Give give, GrammarLimits limits = {});
  ~GrammarQueue();  // waits for what is being compiled

  Status Add(std::shared_ptr<Job> job);  // kUnavailable: too many wait
  // Whoever waits gets an error now; nothing is taken any more.
  void Stop();

 private:
  // A request that waits, and what calls when it is cancelled. That call locks the mutex, and the callback's
  // destructor waits for it: waiters are destroyed without the lock.
  struct Waiter {
    std::shared_ptr<Job> job;
    std::unique_ptr<StopCallback> on_cancel;
  };

  void CompileAll();
  void EndOverdue();
  double EndOf(const Job& job) const;
  void LookAgain();
  std::vector<Waiter> TakeAll(const Structure& structure);

  const Compile compile_;
  const Give give_;
  const GrammarLimits limits_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Waiter> waiting_;  // in order; also those whose grammar is being compiled
  bool stopping_ = false;
  bool look_ = false;  // one came or was cancelled: the next time at which one ends may be another
  std::thread compiler_, ender_;
};

}  // namespace headrace::engine
