// The state of one ingest run. Owned by Ingest; used by its thread only.
#pragma once

#include <string>

#include "ingest/ingest.h"
#include "ingest/walk.h"

namespace headrace::ingest {

struct RunState {
  RunState(table::Catalog* in, const IngestOptions& with) : catalog(in), options(with), commit(with.commit) {
    report.table = options.table;
    commit.stop = options.stop;
  }

  void Fail(const FoundFile& file, Status error) {
    report.errors.push_back({file.relative, std::move(error), file.source});
  }
  void Tell(const char* what, int64_t done, int64_t total, int64_t bytes) const {
    if (!options.progress) return;
    options.progress({what, done, total, bytes, static_cast<int64_t>(report.errors.size())});
  }
  void Add(const table::CommitResult& committed) {
    report.version = committed.version;
    report.rows += committed.rows;
    report.bytes += committed.bytes;
  }

  table::Catalog* catalog;
  const IngestOptions& options;
  table::CommitOptions commit;
  IngestReport report;
};

// Most retries after another process took in the same files. Each retry skips at least one more file, so it
// ends.
inline constexpr int kMaxRedone = 1'000;

// One commit for all of them.
Status TakePhotos(const std::vector<FoundFile>& files, RunState* run);
// Commits of many files, in order.
Status TakeDataFiles(const std::vector<FoundFile>& files, RunState* run);
// The rows of `<table>_errors`; those that are there already are not written again.
Status WriteErrors(RunState* run);

}  // namespace headrace::ingest
