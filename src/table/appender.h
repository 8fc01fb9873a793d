// Rows arriving over time, committed together.
#pragma once

#include <cstdint>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "table/commit_options.h"
#include "table/taken.h"

namespace headrace::table {

// Rows arriving over time, committed together at the end. Dropped without Commit: nothing happened, and their
// files are deleted.
class Appender {
 public:
  virtual ~Appender() = default;
  // After an error of Write, all is lost: later calls give the same error.
  virtual Status Write(const arrow::RecordBatch& batch) = 0;
  // What the rows came from, once: Commit is a Conflict if somebody takes it in meanwhile.
  virtual void Take(TakenItem item) = 0;
  // After an error it may be called again, where `can_retry`: the same files, another attempt at the
  // snapshot. The rows are committed once, also where an earlier attempt ended in Unknown: that is settled
  // first.
  virtual Result<CommitResult> Commit() = 0;
  virtual bool can_retry() const = 0;
  virtual int64_t rows() const = 0;
  virtual int64_t bytes() const = 0;
};

}  // namespace headrace::table
