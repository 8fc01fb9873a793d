#include "model/arithmetic.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <thread>

#include "base/clock.h"

namespace headrace::model {

int64_t AvailableMemory() {
  FILE* file = std::fopen("/proc/meminfo", "r");
  if (file == nullptr) return 0;
  char line[256];
  long long kilobytes = 0;
  while (std::fgets(line, sizeof line, file) != nullptr)
    if (std::sscanf(line, "MemAvailable: %lld kB", &kilobytes) == 1) break;
  std::fclose(file);
  return kilobytes * 1024;
}

double MeasureBandwidth(int threads) {
  constexpr size_t kBytes = size_t{1} << 30;
  std::vector<uint64_t> buffer(kBytes / sizeof(uint64_t), 1);
  double best = 0;
  for (int round = 0; round < 3; ++round) {
    std::vector<uint64_t> sums(static_cast<size_t>(threads));
    const double start = MonotonicSeconds();
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t) {
      workers.emplace_back([&, t] {
        const size_t part = buffer.size() / static_cast<size_t>(threads);
        const uint64_t* from = buffer.data() + part * static_cast<size_t>(t);
        uint64_t lanes[16] = {};
        for (size_t i = 0; i + 16 <= part; i += 16)
          for (size_t lane = 0; lane < 16; ++lane) lanes[lane] += from[i + lane];
        for (const uint64_t lane : lanes) sums[static_cast<size_t>(t)] += lane;
      });
    }
    for (auto& worker : workers) worker.join();
    uint64_t sum = 0;
    for (const uint64_t s : sums) sum += s;
    if (sum == 0) return 0;  // never: it keeps the sums from being optimised away
    best = std::max(best, static_cast<double>(kBytes) / (MonotonicSeconds() - start));
  }
  return best;
}

Result<std::vector<MeasuredStep>> MeasureSteps(Decoder* decoder, int threads) {
  std::vector<MeasuredStep> steps;
  const auto measure = [&](int32_t rows, bool outputs) -> Status {
    std::vector<double> times;
    for (int round = 0; round < (rows > 64 ? 3 : 7); ++round) {
      std::vector<Row> batch;
      for (int32_t i = 0; i < rows; ++i) {
        // Decoding: each row its own path; prefill: one path.
        batch.push_back({(i * 37 + 11) % decoder->facts().vocabulary, outputs ? 0 : i, outputs ? i : 0,
                         outputs || i == rows - 1});
      }
      const double start = MonotonicSeconds();
      HEADRACE_TRY(decoder->Decode(batch, threads));
      times.push_back(MonotonicSeconds() - start);
      for (int32_t path = 0; path < (outputs ? rows : 1); ++path) decoder->Truncate(path, 0);
    }
    std::sort(times.begin() + 1, times.end());  // the first warms up
    steps.push_back({rows, outputs, times[1 + (times.size() - 1) / 2]});
    return Status::Ok();
  };
  for (const int32_t rows : {1, 2, 4, 8, 16, 32})
    if (rows <= decoder->facts().paths) HEADRACE_TRY(measure(rows, true));
  for (const int32_t rows : {128, 512})
    if (rows <= decoder->facts().max_rows) HEADRACE_TRY(measure(rows, false));
  return steps;
}

Result<Arithmetic> Work(const std::shared_ptr<const Model>& model, int threads) {
  Arithmetic result;
  const Facts& about = model->facts();
  result.free_memory = AvailableMemory();
  if (about.kv_bytes_per_token > 0)
    result.tokens_that_fit =
        std::max<int64_t>(0, result.free_memory - about.weight_bytes) / about.kv_bytes_per_token;
  result.bandwidth = MeasureBandwidth(threads);
  result.decode_ceiling = result.bandwidth / static_cast<double>(std::max<int64_t>(about.step_bytes, 1));
  if (about.task() != Task::kWrite) return result;
  HEADRACE_ASSIGN(const std::unique_ptr<Decoder> decoder,
                  NewDecoder(model, {.cells = 2048, .max_rows = 512, .paths = 64, .threads = threads}));
  HEADRACE_ASSIGN(result.steps, MeasureSteps(decoder.get(), threads));
  const double one = result.steps.front().seconds;
  for (size_t i = 1; i < result.steps.size() && result.steps[i].outputs; ++i) {
    const MeasuredStep &a = result.steps[i - 1], &b = result.steps[i];
    if (b.seconds < 2 * one) {
      result.binding_batch = b.rows;
      continue;
    }
    result.binding_batch =
        a.rows + (b.rows - a.rows) *
                     std::clamp((2 * one - a.seconds) / std::max(b.seconds - a.seconds, 1e-9), 0.0, 1.0);
    break;
  }
  return result;
}

}  // namespace headrace::model
