// replay: turns the records of a spool into rows of tables.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "trace/kinds.h"
#include "trace/points.h"
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

// A record of kind kMedia: a row of `media`, and its bytes.
std::string EncodeMedia(const nlohmann::json& row, std::string_view bytes);

// One spool's records in their order: keeps what has begun and not ended.
class Replay {
 public:
  explicit Replay(std::string writer = "") : writer_(std::move(writer)) {}

  // Adds the rows that `record` completes.
  void Take(const Record& record, Rows* rows);
  // Adds rows of the points that were taken and are not among the rows yet.
  void Flush(Rows* rows) { points_.Flush(&(*rows)[metrics_]); }
  // Those points are not wanted: a table has them.
  void DropPoints() { points_.Drop(); }
  // Adds what never ended, as its writer's death leaves it: requests with finish = "interrupted", and of a
  // run that it is `killed`.
  void AddInterrupted(Rows* rows) const;
  // Points become no rows: for who wants those of other tables.
  void WithoutPoints() { points_.OnlyLast(); }
  // Adds what is under way, since its writer lives: requests, and of a run the last values of its metrics.
  void AddRunning(Rows* rows) const;
  // Before the oldest record that has begun and not ended; `otherwise` where there is none.
  Position Oldest(Position otherwise) const;
  size_t open() const { return open_.size(); }
  int64_t unreadable() const { return unreadable_; }
  int64_t points() const { return points_.waiting(); }

 private:
  struct Begun {
    nlohmann::json row;
    Position end;  // of its record
  };
  void TakeRun(const nlohmann::json& row);
  bool TakeSeries(const nlohmann::json& head);
  void AddSummary(nlohmann::json* row) const;

  std::string writer_;
  size_t metrics_ = FindTable(kMetrics), runs_ = FindTable(kRuns);
  std::map<std::pair<size_t, std::string>, Begun> open_;  // by table and id
  PointChunks points_;
  // The run that this writer is answerable for, while it has not said that it ended.
  std::optional<std::string> run_;
  int64_t life_ = 0;
  nlohmann::json summary_;   // the last that a row of it had
  bool from_start_ = false;  // its first record was among those that were taken
  Position last_;            // after the last record
  int64_t last_time_ = 0;    // that it told; microseconds since 1970
  int64_t unreadable_ = 0;   // records that are whole, but are not what we write
};

}  // namespace headrace::trace
