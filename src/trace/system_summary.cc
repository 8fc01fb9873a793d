#include "trace/system_summary.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace headrace::trace {

size_t SystemSummary::Declare(std::string key) {
  const std::lock_guard lock(mutex_);
  sums_.push_back({.key = std::move(key)});
  return sums_.size() - 1;
}

void SystemSummary::Add(size_t figure, double value) {
  if (!std::isfinite(value)) return;
  const std::lock_guard lock(mutex_);
  Sum& sum = sums_[figure];
  sum.min = sum.samples == 0 ? value : std::min(sum.min, value);
  sum.max = sum.samples == 0 ? value : std::max(sum.max, value);
  sum.total += value;
  ++sum.samples;
}

void SystemSummary::Say(std::string what) {
  const std::lock_guard lock(mutex_);
  said_.push_back(std::move(what));
}

std::vector<SystemFigure> SystemSummary::Take() {
  std::vector<SystemFigure> figures;
  const std::lock_guard lock(mutex_);
  for (Sum& sum : sums_) {
    if (sum.samples == 0) continue;
    const double mean = std::clamp(sum.total / static_cast<double>(sum.samples), sum.min, sum.max);
    figures.push_back({sum.key, sum.min, mean, sum.max, sum.samples});
    sum.total = 0;
    sum.samples = 0;
  }
  return figures;
}

std::vector<std::string> SystemSummary::TakeSaid() {
  const std::lock_guard lock(mutex_);
  return std::exchange(said_, {});
}

}  // namespace headrace::trace
