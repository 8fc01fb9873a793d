// GrammarQueue: requests that wait for their grammar. One thread compiles (a slow grammar delays only those
// whose own was never compiled before), another looks after those that wait: a compilation cannot be
// interrupted, but nobody has to wait for its end who hung up, whose deadline passed, or who waits too long.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

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
  void CompileAll();
  void LookAfter();
  std::vector<std::shared_ptr<Job>> TakeAll(const Structure& structure);

  const Compile compile_;
  const Give give_;
  const GrammarLimits limits_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::shared_ptr<Job>> waiting_;  // in order; also those whose grammar is being compiled
  bool stopping_ = false;
  std::thread compiler_, looker_;
};

}  // namespace headrace::engine
