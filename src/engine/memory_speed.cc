#include "engine/memory_speed.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <thread>
#include <vector>

namespace headrace::engine {
namespace {

constexpr int kPasses = 4;

// Several sums at once, so that memory is waited for and not the additions.
uint64_t Sum(std::span<const uint64_t> words) {
  uint64_t a = 0, b = 0, c = 0, d = 0;
  size_t i = 0;
  for (; i + 4 <= words.size(); i += 4) {
    a += words[i];
    b += words[i + 1];
    c += words[i + 2];
    d += words[i + 3];
  }
  for (; i < words.size(); ++i) a += words[i];
  return a + b + c + d;
}

}  // namespace

double MeasureMemorySpeed(int threads, const std::function<double()>& clock, size_t bytes) {
  const auto count = static_cast<size_t>(std::max(threads, 1));
  const std::vector<uint64_t> words(std::max(bytes / sizeof(uint64_t), count), 1);
  const size_t part = words.size() / count;
  std::vector<uint64_t> sums(count);
  const auto read = [&](size_t who) { sums[who] = Sum(std::span(words).subspan(who * part, part)); };
  double best = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < kPasses; ++pass) {
    const double began = clock();
    {
      std::vector<std::jthread> others;
      for (size_t who = 1; who < count; ++who) others.emplace_back(read, who);
      read(0);
    }
    best = std::min(best, clock() - began);
  }
  // The sums are used, so that no compiler leaves the reading out.
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  const double read_bytes = static_cast<double>(total) * sizeof(uint64_t);
  return read_bytes / std::max(best, 1e-9);
}

}  // namespace headrace::engine
