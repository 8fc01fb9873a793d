// run_log: what one process records of a run, into a spool of its own. Values that were logged are in the
// kernel when Log returns: a killed process loses none. Sync() each second keeps the last seconds at most
// from a power cut.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"
#include "trace/spool.h"

namespace headrace::trace {

inline constexpr size_t kMostKeyBytes = 1 << 20;  // of a metric's name

// Thread-safe.
class RunLog {
 public:
  struct Series {
    std::string run;
    int64_t rank = 0;
    int64_t life = 0;   // see MetricColumns()
    bool owner = true;  // where its process dies without a word, the run was killed
  };
  // The spool lies below `root` (SpoolRoot).
  static Result<std::unique_ptr<RunLog>> Open(const std::string& root, Series series,
                                              const SpoolOptions& options = {.mapped_bytes = kMappedBytes});

  // Values of keys at one step, logged at `micros` (microseconds since 1970). All of them or none. Invalid
  // where a key is empty or longer than kMostKeyBytes.
  Status Log(int64_t step, int64_t micros, std::span<const std::pair<std::string_view, double>> values);
  // A row of `runs`: what is known of the run now.
  Status Record(const nlohmann::json& row);
  // A row of `media` and its bytes; the run, its rank and life are filled in. Limit where both are larger
  // than kMaxRecordBytes.
  Status LogMedia(nlohmann::json row, std::string_view bytes);
  Status Sync() { return spool_->Sync(); }
  // The last value of each key, in the order in which keys came first.
  std::vector<std::pair<std::string, double>> Last() const;
  const Spool& spool() const { return *spool_; }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  struct Key {
    std::string_view name;  // of numbers_
    int64_t declared = 0;   // the segment in which it has its number
    double last = 0;
  };

  RunLog() = default;
  Status Append(Kind kind, std::string_view payload);
  Status NumberOf(std::string_view name, uint32_t* number);
  int64_t Undeclared() const;
  Status Declare(size_t bytes);

  mutable std::mutex mutex_;
  std::unique_ptr<Spool> spool_;
  Series series_;
  std::string head_;     // the record that begins each segment
  int64_t segment_ = 0;  // that it was written to
  std::unordered_map<std::string, uint32_t, Hash, std::equal_to<>> numbers_;
  std::vector<Key> keys_;  // by number
  // Of the call that is under way; kept for their memory.
  std::vector<std::pair<uint32_t, double>> values_;
  std::string payload_;
};

}  // namespace headrace::trace
