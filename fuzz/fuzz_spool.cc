// A spool's segment of any bytes: records are read while they are whole, and no further.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "trace/committer.h"

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
  std::vector<nlohmann::json> traces, scores;
  int64_t bytes = 0;
  const auto report = trace::ReadSpool(folder, {}, [&](const trace::Record& record) {
    bytes += static_cast<int64_t>(record.payload.size());
    replay.Take(record, &traces, &scores);
    return Status::Ok();
  });
  if (!report.ok() || bytes > static_cast<int64_t>(size)) abort();
  if (!trace::ToBatch(trace::TraceColumns(), traces).ok()) abort();
  return 0;
}
