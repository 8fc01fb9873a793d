// Recorder: every request is a row. A start record lies in the spool before the first byte of an answer, an
// end record before its last. A thread commits the spools of this machine to the tables, or stands by while
// another process does (trace/commit_thread.h). A disk that is full or a store that is away costs rows, or
// delays them, never an answer.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "base/json.h"
#include "serve/record_mode.h"
#include "trace/commit_thread.h"

namespace headrace::serve {

struct RecorderStats {
  int64_t written = 0, dropped = 0, committed = 0;
  std::string trouble;  // what does not work now, "" where all does
  std::string damaged;  // where records are kept that could not be read, "" where there are none
};

class Recorder {
 public:
  // `catalog` may be null: nothing is recorded. `commit_seconds`: between commits; they come sooner where
  // much waits.
  static Result<std::unique_ptr<Recorder>> Start(std::shared_ptr<table::Catalog> catalog, RecordMode mode,
                                                 double commit_seconds);
  ~Recorder();  // commits what there is

  RecordMode mode() const { return mode_; }
  bool on() const { return spool_ != nullptr; }
  // Texts become hashes, or go, by the mode. `text` and `hash` name the columns.
  void SetText(nlohmann::json* row, const char* text, const char* hash, const std::string& value) const;
  // False where it could not be written: stats() and stderr tell why, so that serving need not look at it.
  bool Write(trace::Kind kind, const nlohmann::json& row);
  // A record of a kind that is not JSON.
  bool Write(trace::Kind kind, const std::string& payload);
  RecorderStats stats() const;
  // Commits now, unless another process commits these spools. For shutdown and tests.
  Status Commit();

 private:
  Recorder() = default;
  void Trouble(const std::string& what, const Status& status);
  Status Append(trace::Kind kind, const nlohmann::json& row);
  void Wrote(const Status& status);
  void WriteLostEnds();

  std::shared_ptr<table::Catalog> catalog_;
  RecordMode mode_ = RecordMode::kFull;
  std::unique_ptr<trace::Spool> spool_;
  std::atomic<int64_t> written_{0}, dropped_{0};
  mutable std::mutex mutex_;
  std::string spool_trouble_, commit_trouble_;
  // Short ends of requests whose own could not be written: written when there is room again. A start without
  // an end would keep every later segment of the spool for as long as the server lives.
  std::deque<nlohmann::json> lost_ends_;
  std::unique_ptr<trace::CommitThread> commits_;
};

}  // namespace headrace::serve
