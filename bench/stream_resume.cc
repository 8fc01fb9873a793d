// Resuming in the middle of a table of 1e9 rows in 1,000 fragments (simulated: extents, and a random half of
// the rows as stored bitmaps). Prints, as JSON: seconds from a checkpoint to the first 64 rows, unfiltered
// and with the selection, and the selection's bits per row with every bitmap loaded.
#include <cstdio>
#include <random>

#include "base/clock.h"
#include "stream/selection.h"
#include "stream/sequence.h"
#include "stream/state.h"

int main() {
  using namespace headrace;
  using namespace headrace::stream;
  constexpr int64_t kFragments = 1000;
  constexpr int64_t kRows = 1'000'000;
  std::vector<Extent> all;
  std::vector<Extent> half;
  std::vector<std::string> sets;
  std::mt19937_64 random(1);
  for (int64_t f = 0; f < kFragments; ++f) {
    std::vector<uint32_t> rows;
    for (int64_t r = 0; r < kRows; r += 64) {
      const uint64_t bits = random();
      for (uint32_t b = 0; b < 64; ++b) {
        if (bits >> b & 1) rows.push_back(static_cast<uint32_t>(r) + b);
      }
    }
    all.push_back({f * kRows, kRows, kRows});
    half.push_back({f * kRows, kRows, static_cast<int64_t>(rows.size())});
    sets.push_back(RowSet::Encode(rows));
  }
  const auto resume = [&](const std::shared_ptr<Selection>& selection) {
    State state;
    state.seed = 17;
    state.point = {3, selection->rows() / 2 + 12'345};
    state.sources = {{7, 1, {selection->rows(), 1, 1, 0, true}}};
    const std::string json = state.ToJson();
    const double start = MonotonicSeconds();
    const State loaded = State::FromJson(json).value();
    const Sequence sequence({{loaded.sources[0].layout, nullptr}}, nullptr, loaded.seed);
    int64_t sum = 0;
    for (int64_t k = 0; k < 64; ++k) {
      const auto place = sequence.At({loaded.point.epoch, loaded.point.position + k});
      sum += selection->RowIdAt(selection->At(place.ordinal).value()).value();
    }
    return sum > 0 ? MonotonicSeconds() - start : -1;
  };
  double start = MonotonicSeconds();
  const auto whole = Selection::All(all);
  const double unfiltered = MonotonicSeconds() - start + resume(whole);
  start = MonotonicSeconds();
  const auto filtered = Selection::From(half, [&](size_t fragment) -> Result<store::Bytes> {
    return store::Bytes::FromString(sets[fragment]);
  });
  const double selected = MonotonicSeconds() - start + resume(filtered);
  for (int64_t f = 0; f < kFragments; ++f) {
    if (!filtered->At(filtered->rows() / kFragments * f).ok()) return 1;
  }
  int64_t stored = 0;
  for (const auto& set : sets) stored += static_cast<int64_t>(set.size());
  std::printf("{\"unfiltered\": %.6f, \"selected\": %.6f, \"bits_in_memory\": %.4f, \"bits_stored\": %.4f}\n",
              unfiltered, selected, static_cast<double>(filtered->memory_bytes()) * 8 / (kFragments * kRows),
              static_cast<double>(stored) * 8 / (kFragments * kRows));
  return 0;
}
