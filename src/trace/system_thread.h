// system_thread: samples the machine each second while a run goes on, and gives a summary every ten.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "trace/system_metrics.h"

namespace headrace::trace {

class SystemThread {
 public:
  // Of a summary: seconds since the thread began, and the figures. Called on the thread, but for the last
  // one.
  using Sink = std::function<void(double seconds, const std::vector<SystemFigure>& figures)>;

  static Result<std::unique_ptr<SystemThread>> Start(const SystemOptions& options, Sink sink);
  ~SystemThread();  // without a last summary
  SystemThread(const SystemThread&) = delete;
  SystemThread& operator=(const SystemThread&) = delete;

  // Gives what was sampled since the last summary. After it `sink` is not called any more. A sample that
  // hangs in a driver is not waited for: its thread is left to itself, with nothing but the sampler.
  void Stop();

 private:
  struct State;
  explicit SystemThread(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace headrace::trace
