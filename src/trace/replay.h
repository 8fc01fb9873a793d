// replay: turns the records of a spool into rows of tables.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "trace/kinds.h"
#include "trace/spool.h"

namespace headrace::trace {

// Rows of each of SpoolTables(), in their order.
using Rows = std::vector<std::vector<nlohmann::json>>;
inline Rows NoRows() { return Rows(SpoolTables().size()); }
inline size_t Count(const Rows& rows) {
  size_t count = 0;
  for (const auto& table : rows) count += table.size();
  return count;
}

// One spool's records in their order: keeps what has begun and not ended.
class Replay {
 public:
  // Adds the rows that `record` completes.
  void Take(const Record& record, Rows* rows);
  // Adds what never ended: rows with finish = "interrupted".
  void AddInterrupted(Rows* rows) const;
  // Before the oldest record that has begun and not ended; `otherwise` where there is none.
  Position Oldest(Position otherwise) const;
  size_t open() const { return open_.size(); }
  int64_t unreadable() const { return unreadable_; }

 private:
  struct Begun {
    nlohmann::json row;
    Position end;  // of its record
  };
  std::map<std::pair<size_t, std::string>, Begun> open_;  // by table and id
  int64_t unreadable_ = 0;                                // records that are whole, but are not what we write
};

}  // namespace headrace::trace
