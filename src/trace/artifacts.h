// artifacts: files that a run leaves, stored once for each content under its hash (artifacts/<sha256>); and
// the files of its checkpoints (checkpoints/<run>/<sha256>), which it may delete again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/progress.h"
#include "base/status.h"
#include "table/catalog.h"

namespace headrace::trace {

struct Artifact {
  std::string sha256;  // 64 hex digits
  int64_t bytes = 0;
};

// The file's bytes, durable in the store when it returns. Conflict where the file changed while it was read.
Result<Artifact> SaveArtifact(const table::Catalog& catalog, const std::string& path,
                              const ProgressFn& progress = {}, const StopToken& stop = {});

// Writes it to a file, whole or not at all. NotFound where there is none; Corrupt where the store gives other
// bytes.
Status FetchArtifact(const table::Catalog& catalog, const std::string& sha256, const std::string& path,
                     const ProgressFn& progress = {}, const StopToken& stop = {});

// The same for files of a run's checkpoints. They are that run's alone.
Result<Artifact> SaveCheckpointFile(const table::Catalog& catalog, const std::string& run,
                                    const std::string& path, const StopToken& stop = {});
Status FetchCheckpointFile(const table::Catalog& catalog, const std::string& run, const std::string& sha256,
                           const std::string& path, const StopToken& stop = {});
// Deletes the run's files but those with these hashes. How many went.
Result<int64_t> KeepCheckpointFiles(const table::Catalog& catalog, const std::string& run,
                                    const std::vector<std::string>& sha256s, const StopToken& stop = {});

}  // namespace headrace::trace
