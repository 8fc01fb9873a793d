// queue_log: the log of an annotation queue, one object an entry: queues/<id>/<rev>.json. Whoever adds one
// puts it at the next number if nobody has, so that every entry was written by one who had read all before
// it. So nothing is decided twice: a place of an item is given away once, whoever is killed when.
#pragma once

#include <memory>

#include "base/ids.h"
#include "base/json.h"
#include "store/object_store.h"
#include "trace/queue_state.h"

namespace headrace::trace {

// Not thread-safe.
class QueueLog {
 public:
  // Every so many entries one holds the whole state: who opens the log reads no more than that many.
  static constexpr int64_t kStateEvery = 64;

  static Result<QueueLog> Open(std::shared_ptr<store::ObjectStore> store, const Uuid& queue);
  // Reads what others have added.
  Status Refresh();
  // Adds an entry after those that the state has. False: another was faster; the state has theirs now.
  // Unknown: the store never said; the next Refresh tells.
  Result<bool> Append(nlohmann::json entry);
  const QueueState& state() const { return state_; }

 private:
  QueueLog(std::shared_ptr<store::ObjectStore> store, const Uuid& queue)
      : store_(std::move(store)), queue_(queue) {}
  Result<nlohmann::json> Read(int64_t number) const;

  std::shared_ptr<store::ObjectStore> store_;
  Uuid queue_;
  QueueState state_;
};

}  // namespace headrace::trace
