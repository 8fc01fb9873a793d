#include "stream/mixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace headrace::stream {

Result<Pattern> Pattern::FromWeights(const std::vector<double>& weights, int64_t cycle) {
  double total = 0;
  for (const double w : weights) {
    if (!(w >= 0) || std::isinf(w)) return Status::Invalid("a mixture's weight is a number of at least 0");
    total += w;
  }
  if (weights.empty() || total <= 0) return Status::Invalid("a mixture needs a source with a weight above 0");
  if (weights.size() > 1000) return Status::Limit("a mixture has at most 1000 sources");
  std::vector<int64_t> quota(weights.size());
  std::vector<std::pair<double, size_t>> remainders;
  int64_t given = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double exact = weights[i] / total * static_cast<double>(cycle);
    quota[i] = static_cast<int64_t>(exact);
    if (quota[i] == 0 && weights[i] > 0) {
      return Status::Invalid("the weight of source " + std::to_string(i) + " is below 1/" +
                             std::to_string(cycle) +
                             " of all; give it a larger one or the mixture a longer cycle");
    }
    given += quota[i];
    remainders.emplace_back(quota[i] - exact, i);
  }
  std::stable_sort(remainders.begin(), remainders.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (int64_t k = 0; k < cycle - given; ++k) quota[remainders[static_cast<size_t>(k)].second] += 1;
  // The shortest cycle with these shares: every stage edge is near, and patterns are easy to read.
  int64_t common = 0;
  for (const int64_t q : quota) common = std::gcd(common, q);
  for (int64_t& q : quota) q /= common;
  return Pattern(std::move(quota));
}

Pattern::Pattern(std::vector<int64_t> quota) : quota_(std::move(quota)) {
  const int64_t cycle = std::accumulate(quota_.begin(), quota_.end(), int64_t{0});
  const auto k = static_cast<int64_t>(quota_.size());
  HEADRACE_CHECK(cycle >= 1);
  source_.resize(static_cast<size_t>(cycle));
  places_.resize(quota_.size());
  // Tijdeman's rule in whole numbers, scaled by cycle and 2k - 2: among the sources whose debt is at least
  // 1 / (2k - 2), the one whose next sample is due first.
  const int64_t scale = std::max<int64_t>(2 * k - 2, 1);
  for (int64_t t = 0; t < cycle; ++t) {
    int best = -1;
    double best_due = 0;
    for (int i = 0; i < static_cast<int>(k); ++i) {
      const int64_t q = quota_[static_cast<size_t>(i)];
      if (q == 0) continue;
      const int64_t debt = q * (t + 1) - static_cast<int64_t>(places_[static_cast<size_t>(i)].size()) * cycle;
      if (k > 1 && debt * scale < cycle) continue;
      const double due =
          (static_cast<double>(cycle) * (1 - 1.0 / static_cast<double>(scale)) - static_cast<double>(debt)) /
          static_cast<double>(q);
      if (best < 0 || due < best_due) {
        best = i;
        best_due = due;
      }
    }
    HEADRACE_CHECK(best >= 0);
    source_[static_cast<size_t>(t)] = static_cast<uint16_t>(best);
    places_[static_cast<size_t>(best)].push_back(static_cast<int32_t>(t));
  }
}

int64_t Pattern::Count(int i, int64_t position) const {
  const auto& places = places_[static_cast<size_t>(i)];
  const int64_t cycles = position / cycle();
  const auto inside =
      std::lower_bound(places.begin(), places.end(), static_cast<int32_t>(position % cycle()));
  return cycles * quota_[static_cast<size_t>(i)] + (inside - places.begin());
}

int64_t Pattern::PositionOf(int i, int64_t count) const {
  const int64_t q = quota_[static_cast<size_t>(i)];
  if (q == 0) return std::numeric_limits<int64_t>::max();
  return count / q * cycle() + places_[static_cast<size_t>(i)][static_cast<size_t>(count % q)];
}

Result<Mixture> Mixture::Make(const std::vector<Stage>& stages, std::vector<int64_t> rows, Exhaust exhaust,
                              int64_t cycle) {
  Mixture mixture;
  if (stages.empty() || stages[0].start != 0)
    return Status::Invalid("a mixture's first stage starts at position 0");
  for (const int64_t n : rows) {
    if (n < 1) return Status::Invalid("a source of the mixture has no rows");
  }
  for (const auto& stage : stages) {
    if (stage.weights.size() != rows.size()) {
      return Status::Invalid("a stage of the mixture has " + std::to_string(stage.weights.size()) +
                             " weights for " + std::to_string(rows.size()) + " sources");
    }
    HEADRACE_ASSIGN(auto pattern, Pattern::FromWeights(stage.weights, cycle));
    Part part{0, std::vector<int64_t>(rows.size()), std::move(pattern)};
    if (!mixture.parts_.empty()) {
      const Part& last = mixture.parts_.back();
      const int64_t length = stage.start - last.start;
      if (length <= 0) return Status::Invalid("a mixture's stages start one after another");
      const int64_t cycles = (length + last.pattern.cycle() - 1) / last.pattern.cycle();
      part.start = last.start + cycles * last.pattern.cycle();
      for (size_t i = 0; i < rows.size(); ++i)
        part.before[i] = last.before[i] + cycles * last.pattern.quota()[i];
    }
    mixture.parts_.push_back(std::move(part));
  }
  mixture.rows_ = std::move(rows);
  if (exhaust == Exhaust::kRepeat) return mixture;
  int64_t first = std::numeric_limits<int64_t>::max();
  int64_t last = 0;
  for (size_t i = 0; i < mixture.rows_.size(); ++i) {
    bool used = false;
    for (const auto& part : mixture.parts_) used |= part.pattern.quota()[i] > 0;
    if (!used) continue;
    const int64_t end = mixture.PositionOf(static_cast<int>(i), mixture.rows_[i] - 1);
    if (end != std::numeric_limits<int64_t>::max()) last = std::max(last, end + 1);
    // Stops before the sample that would have to be the source's first again.
    first = std::min(first, mixture.PositionOf(static_cast<int>(i), mixture.rows_[i]));
  }
  mixture.length_ = exhaust == Exhaust::kStopAtFirst ? first : last;
  return mixture;
}

int64_t Mixture::PositionOf(int source, int64_t count) const {
  const auto i = static_cast<size_t>(source);
  for (size_t p = parts_.size(); p-- > 0;) {
    const Part& part = parts_[p];
    if (count < part.before[i]) continue;
    const int64_t inside = part.pattern.PositionOf(source, count - part.before[i]);
    if (inside == std::numeric_limits<int64_t>::max()) return inside;
    return part.start + inside;
  }
  return std::numeric_limits<int64_t>::max();
}

Mixture::Place Mixture::At(int64_t position) const {
  size_t p = parts_.size() - 1;
  while (parts_[p].start > position) --p;
  const Part& part = parts_[p];
  Place place;
  place.source = part.pattern.source(position - part.start);
  const auto i = static_cast<size_t>(place.source);
  const int64_t count = part.before[i] + part.pattern.Count(place.source, position - part.start);
  place.pass = count / rows_[i];
  place.index = count % rows_[i];
  return place;
}

}  // namespace headrace::stream
