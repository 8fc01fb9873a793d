// backend: what answers a model's name. Today it is an engine in this process (local_backend.h), which is
// loaded when it is first asked for and put to sleep when nobody has asked for a while; a proxy to another
// server would be another.
//
// Whoever wants an answer acquires a lease. Where the model is not loaded that takes seconds, and no thread
// waits for it: what is to be done with the lease is a function. While a lease is held the model stays.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/chat_session.h"
#include "engine/embedder.h"
#include "engine/engine.h"

namespace headrace::serve {

// What a local backend has loaded. Immutable.
struct Served {
  std::string name, sha256, path;
  int64_t bytes = 0;                 // of memory: weights and cache
  engine::HostCache::Charge memory;  // of so many bytes, until nobody holds it any more
  int64_t loaded_us = 0;
  model::Task task = model::Task::kWrite;
  // Names of the catalog's adapters that it was loaded with, without the model's: "support". All are among
  // the session's.
  std::vector<std::string> adapters;
  std::vector<std::string> warnings;  // of adapters that it was loaded without, and such
  std::shared_ptr<const engine::ChatSession> session;
  std::unique_ptr<engine::Engine> engine;      // of language models
  std::unique_ptr<engine::Embedder> embedder;  // of embedding models and rerankers
  const model::Model& model() const { return session->model(); }
};

// A model in use, and what keeps it loaded.
using Lease = std::shared_ptr<Served>;

// A backend as it is now.
struct BackendReport {
  enum class State { kAsleep, kLoading, kReady };
  std::string name;
  State state = State::kAsleep;
  model::Task task = model::Task::kWrite;
  std::shared_ptr<Served> served;  // no lease: for who tells of it. Null where it is not loaded
  int64_t leases = 0;              // that are held
  int64_t waiting = 0;             // for it to be loaded
  int64_t loads = 0, sleeps = 0;   // so far
  double load_seconds = 0;         // of the last load
  std::string trouble;             // why the last load failed, until one does not
};
const char* StateName(BackendReport::State state);

// Thread-safe.
class Backend {
 public:
  // A call that waits for a lease.
  using WaitId = uint64_t;
  static constexpr WaitId kNoWait = 0;
  using Done = std::function<void(Result<Lease>)>;

  virtual ~Backend() = default;
  virtual const std::string& name() const = 0;
  virtual model::Task task() const = 0;
  virtual BackendReport report() const = 0;

  // A lease where the model is ready, null otherwise; never waits.
  virtual Lease TryAcquire() = 0;
  // Calls `done` once: at once (and gives kNoWait) where that is possible, else on a thread of the backend's,
  // when the model is loaded. Errors: kUnavailable where it cannot be loaded now, though perhaps in
  // kRetrySeconds; kLimit where too many wait; kCancelled where the server ends. `done` must be quick.
  virtual WaitId Acquire(Done done) = 0;
  // Nobody waits any more: `done` will not be called. False where it was called, or is being called.
  virtual bool Cancel(WaitId wait) = 0;

  // After a load that failed, the next is tried when so much time has passed.
  static constexpr double kRetrySeconds = 5;
};

}  // namespace headrace::serve
