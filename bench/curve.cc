// A curve of very many points: bench_curve FOLDER POINTS PIXELS
//   → {"commit_seconds", "overview_seconds", "bytes"} as JSON: from the spool into the table, the median of
//   drawing it from a catalog that was just opened, the bytes of the table's files
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>

#include "base/clock.h"
#include "table/catalog.h"
#include "trace/committer.h"
#include "trace/curve.h"
#include "trace/run_log.h"
#include "trace/tables.h"

using namespace headrace;  // NOLINT: a program, not a header

namespace {

template <typename T>
T Must(Result<T> result) {
  if (result.ok()) return std::move(result).value();
  std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  std::exit(1);
}
void Must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

constexpr char kRun[] = "0123456789abcdef0123456789abcdef";

// A loss that falls, with noise, about a thousand times a second.
void Log(const table::Catalog& catalog, int64_t points) {
  const auto log = Must(trace::RunLog::Open(trace::SpoolRoot(catalog), {.run = kRun, .life = 1}));
  std::mt19937_64 random(1);
  std::normal_distribution<double> noise(0, 0.05);
  int64_t micros = 1'700'000'000'000'000;
  for (int64_t step = 0; step < points; ++step) {
    const double loss = std::exp(-static_cast<double>(step) / 1e6) + noise(random);
    Must(log->Log(step, micros, {{{"loss", loss}}}));
    micros += 900 + static_cast<int64_t>(random() % 200);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const std::string folder = argv[1];
  {
    const auto catalog = Must(table::Catalog::Init(folder));
    Log(*catalog, std::stoll(argv[2]));
  }
  const auto catalog = Must(table::Catalog::Open(folder));
  const double begin = MonotonicSeconds();
  Must(trace::CommitSpools(catalog).status());
  const double committed = MonotonicSeconds() - begin;
  const auto view = Must(trace::Newest(*catalog, trace::kMetrics));
  uint64_t bytes = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder + "/" + view->prefix() + "data"))
    bytes += entry.file_size();
  double seconds[5];
  for (double& one : seconds) {
    const auto fresh = Must(table::Catalog::Open(folder));
    const double start = MonotonicSeconds();
    const auto curve =
        Must(trace::ReadCurve(*fresh, {.run = kRun, .key = "loss", .pixels = std::stoi(argv[3])}));
    one = MonotonicSeconds() - start;
    if (curve.points != std::stoll(argv[2])) {
      std::fprintf(stderr, "%lld points\n", static_cast<long long>(curve.points));
      return 1;
    }
  }
  std::sort(seconds, seconds + 5);
  std::printf("{\"commit_seconds\": %.4f, \"overview_seconds\": %.4f, \"bytes\": %llu}\n", committed,
              seconds[2], static_cast<unsigned long long>(bytes));
  return 0;
}
