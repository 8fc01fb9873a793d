// What every commit may be told (who, why, exactly-once, progress), and what it answers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "table/data_writer.h"
#include "table/writers.h"

namespace headrace::table {

struct CommitOptions {
  std::string who;  // default: user@host
  std::string why;
  std::string how;                  // the program, for the log
  std::vector<std::string> inputs;  // lineage
  // Exactly-once appends: commit number `sequence` of this writer is taken once, however often it is tried.
  std::string writer;
  int64_t sequence = -1;
  // The writer's sequence that this one must follow, -1 for none: Conflict otherwise. For writers whose rows
  // depend on what they committed before, and who cannot be sure of it.
  std::optional<int64_t> after;
  // A version of the table of which the writer knows that it does not have this commit: noted, durably,
  // before the commit was first tried. Where marks have gone since, a writer without one is refused
  // (Unknown).
  int64_t since = 0;
  WriteOptions write;
  StopToken stop;
  ProgressFn progress;
};

struct CommitResult {
  int64_t version = 0;
  int64_t rows = 0;
  int64_t bytes = 0;
  int64_t fragments = 0;
  bool repeated = false;
};

// "ada@laptop", or HEADRACE_USER.
std::string DefaultWho();

// The commit's place among those of its writer.
WriterClaim ClaimOf(const CommitOptions& options);

}  // namespace headrace::table
