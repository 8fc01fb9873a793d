// Metrics of a server, as Prometheus reads them (text format 0.0.4; prometheus.io/docs/instrumenting). Names
// are base units, counters end in _total.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/core.h"
#include "http/http_server.h"
#include "serve/recorder.h"

namespace headrace::serve {

// Where one request's figures go. Thread-safe.
class RequestMetrics {
 public:
  virtual ~RequestMetrics() = default;
  virtual void FirstToken(double seconds) = 0;  // since it arrived
  virtual void NextToken(double seconds) = 0;   // since the one before
  virtual void End(int status, const engine::Usage& usage) = 0;
};

struct ModelLoad {
  std::string name;
  bool ready = false;                      // loaded
  int64_t waiting = 0;                     // for it to be loaded
  int64_t loads = 0, sleeps = 0;           // so far
  std::optional<engine::CoreStats> stats;  // of a language model that is loaded
};

class Metrics {
 public:
  static std::unique_ptr<Metrics> Make();
  virtual ~Metrics() = default;
  // `group`: of the key.
  virtual std::shared_ptr<RequestMetrics> Request(const std::string& model, const std::string& endpoint,
                                                  const std::string& group) = 0;
  // One that no model began: refused, or answered without one.
  virtual void Answered(const std::string& endpoint, int status) = 0;
  // Everything, with the gauges as they are now.
  virtual std::string Text(const std::vector<ModelLoad>& models, const http::HttpStats& http,
                           const RecorderStats& recorder, int64_t swaps, int64_t clock_jumps) = 0;
};

}  // namespace headrace::serve
