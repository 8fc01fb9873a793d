// run_writer: everything that one process does for a run: its log, the thread that commits, the one that
// samples the machine. For Python's runs and for `headrace track`.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "table/catalog.h"
#include "trace/commit_thread.h"
#include "trace/run_log.h"
#include "trace/system_thread.h"

namespace headrace::trace {

class RunWriter {
 public:
  struct Options {
    bool system = true;  // keep what the machine does below sys/, and this process with all below it
  };
  static Result<std::unique_ptr<RunWriter>> Open(std::shared_ptr<table::Catalog> catalog,
                                                 RunLog::Series series, const Options& options);
  // As a process that dies would leave it: Close() says that everything is done.
  ~RunWriter();
  RunWriter(const RunWriter&) = delete;
  RunWriter& operator=(const RunWriter&) = delete;

  RunLog& log() { return *log_; }
  // Keeps what the machine does below sys/, and a process with all below it; 0: this one. Once.
  void Sample(int pid);
  const table::Catalog& catalog() const { return *catalog_; }
  // What was logged so far, now, unless another process commits for this machine.
  Status Commit() { return commits_->Commit(); }
  // The last figures of the machine are logged, then the spool is left: it is committed now, or by the
  // process that commits for this machine (`commit` false: by whoever commits next). Nothing may be logged
  // after it.
  Status Close(bool commit = true);
  std::string trouble() const;  // what does not work now, "" where all does

 private:
  explicit RunWriter(std::shared_ptr<table::Catalog> catalog) : catalog_(std::move(catalog)) {}
  void Keep(double seconds, const std::vector<SystemFigure>& figures);
  void Tell(const Status& status);

  std::shared_ptr<table::Catalog> catalog_;
  mutable std::mutex mutex_;
  std::string trouble_;
  std::unique_ptr<RunLog> log_;
  std::unique_ptr<CommitThread> commits_;  // these two have ended before log_ goes
  std::unique_ptr<SystemThread> system_;
};

}  // namespace headrace::trace
