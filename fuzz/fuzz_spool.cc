// A spool's segment of any bytes: records are read while they are whole, and no further.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "trace/replay.h"

using namespace headrace;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string folder = [] {
    const std::string path =
        std::filesystem::temp_directory_path() / ("fuzz-spool-" + std::to_string(getpid()));
    std::filesystem::create_directories(path);
    return path;
  }();
  std::ofstream(folder + "/00000001.seg", std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  trace::Replay replay;
  trace::Rows rows = trace::NoRows();
  int64_t bytes = 0;
  const auto report = trace::ReadSpool(folder, {}, [&](const trace::Record& record) {
    bytes += static_cast<int64_t>(record.payload.size());
    replay.Take(record, &rows);
    return Status::Ok();
  });
  if (!report.ok() || bytes > static_cast<int64_t>(size)) abort();
  for (size_t t = 0; t < rows.size(); ++t)
    if (!trace::ToBatch(trace::SpoolTables()[t].columns(), rows[t]).ok()) abort();
  return 0;
}
