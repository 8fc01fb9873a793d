// What the endpoints share.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "api/call.h"
#include "base/clock.h"
#include "base/task_pool.h"
#include "http/http_server.h"
#include "serve/clock_watch.h"
#include "serve/in_flight.h"
#include "serve/kept_responses.h"
#include "serve/keys.h"
#include "serve/labelling.h"
#include "serve/meter.h"
#include "serve/metrics.h"
#include "serve/models.h"
#include "serve/recorder.h"

namespace headrace::serve {

struct Services {
  std::unique_ptr<Models> models;
  std::unique_ptr<Recorder> recorder;
  std::unique_ptr<KeptResponses> responses;
  std::unique_ptr<Labelling> labelling;
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<KeyRing> keys;
  Meter meter;
  ClockWatch clock;
  InFlightList in_flight;
  // A member, not a pointer: it is closed when the server ends, and never gone while a thread may look.
  TaskPool workers{2, "hr-serve"};  // bodies are read and prompts made here, not where connections live
  http::HttpServer* http = nullptr;
  int64_t max_body = 0;  // bytes, also of what comes packed
  bool strict_fields = false;
  api::Call defaults;  // what calls for text begin with
  std::string build;   // of the engine
  std::atomic<bool> ready{false}, stopping{false};
};

// In metrics: what no route is. See routes.h.
inline constexpr char kUnknownRoute[] = "other";

// Who asks, and when it came.
struct Caller {
  KeyFacts key;  // id "" without keys
  std::string request_id;
  const char* route = kUnknownRoute;  // its name
  double arrived = 0;                 // monotonic seconds
  int64_t arrived_us = 0;             // since 1970

  // Microseconds since 1970, as many after the arrival as have passed: never before it, whatever the clock
  // does.
  int64_t Now() const { return arrived_us + static_cast<int64_t>((MonotonicSeconds() - arrived) * 1e6); }
};

}  // namespace headrace::serve
