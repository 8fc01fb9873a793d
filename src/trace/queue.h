// queue: annotation queues: what people are to judge, and by which rubric.
//
//   HEADRACE_ASSIGN(auto queue, CreateQueue(catalog.get(), {.name = "sharp", .sql = "select …"}, run, {}));
//   HEADRACE_ASSIGN(auto annotator, Annotator::Open(catalog, queue, {.who = "ada", …}));   // annotator.h
//
// A queue is a row of `hr.queues` (the last of a name counts), its items are rows of `hr.queue_items`: the
// query runs once, when the queue is made, and the queue stays as it was then. Who has labelled what is in
// its log (queue_log.h), the labels are rows of `hr.scores`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/json.h"
#include "table/catalog.h"
#include "trace/kinds.h"
#include "trace/scores.h"

namespace arrow {
class RecordBatchReader;
}

namespace headrace::trace {

inline constexpr const char* kQueues = "queues";
inline constexpr const char* kQueueItems = "queue_items";
// As the tables that spools fill are told.
const SpoolTable& QueueTable();

// What is asked of each item: one of some labels, or a number of a range.
struct Rubric {
  struct Label {
    std::string key;  // one character
    std::string label;
  };
  std::string name = "score";  // of the scores
  std::vector<Label> labels;   // none: a number
  double least = 0, most = 1;
  std::string instructions;

  // Invalid where it asks for nothing, or two labels share a key. Labels without a key get one: their first
  // letter that is free, else a digit.
  Status Complete();
  // Invalid where the rubric does not have this label or number.
  Status Check(const std::optional<double>& value, const std::string& label) const;
  nlohmann::json ToJson() const;
  static Result<Rubric> FromJson(const nlohmann::json& json);
};

struct Queue {
  std::string name;
  Uuid id;  // of this making of it
  std::string sql;
  std::vector<std::string> inputs;  // the tables that it read: "photos@v7"
  Rubric rubric;
  int64_t overlap = 1;  // people that each item goes to
  int64_t items = 0;
  std::string who;
  int64_t time = 0;  // microseconds since 1970
  bool removed = false;
};

// The rows of a statement, and the tables that it read ("photos@7"): valid until the next is run.
struct SqlRows {
  std::shared_ptr<arrow::RecordBatchReader> rows;
  std::vector<std::string> inputs;
};
using RunSql = std::function<Result<SqlRows>(const std::string& sql)>;

// Makes the queue of its query's rows. Each is an item, and what it is about stands in one of its columns:
//   target    "run:0193…", "row:photos@v7:42"
//   _row_id   of the one table that was read; a plain select is given it where it has none of these
//   id        of requests or runs, where the one table is traces or runs
// The others are shown. AlreadyExists where there is a queue of this name, Invalid where no column says what
// the items are, or an item is there twice.
Result<Queue> CreateQueue(table::Catalog* catalog, Queue queue, const RunSql& run,
                          const table::CommitOptions& options);
// Of a queue that somebody wrote down: name, sql, rubric, overlap.
Result<Queue> QueueFromJson(const nlohmann::json& json);
// NotFound names those that there are.
Result<Queue> FindQueue(const table::Catalog& catalog, const std::string& name);
// By name; with `removed`, all that ever were, oldest first.
Result<std::vector<Queue>> ListQueues(const table::Catalog& catalog, bool removed = false);
// Nobody gets its items any more; labels stay.
Result<Queue> RemoveQueue(table::Catalog* catalog, const std::string& name,
                          const table::CommitOptions& options);
nlohmann::ordered_json ToJson(const Queue& queue);

struct QueueItem {
  int64_t number = 0;  // from 0, in the query's order
  Target target;
  nlohmann::ordered_json shown;  // by column; blobs as their facts
};
// All of them, in order.
Result<std::vector<QueueItem>> QueueItems(const table::Catalog& catalog, const Queue& queue);

}  // namespace headrace::trace
