#include "stream/order.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/limits.h"

namespace headrace::stream {
namespace {

// Names of keys below a seed.
constexpr uint64_t kBlocks = 1;
constexpr uint64_t kCells = 2;

constexpr int64_t kBaseLanes = 48;
constexpr int64_t kBlockBytes = 1 << 20;
constexpr int64_t kMinWindow = 262'144;
// A lane border may cut a block in two, and both halves may be fetched: at most 1 block in 20.
constexpr int64_t kBlocksPerLane = 20;
// A block is at most this share of a lane's part of a window: neighbours stay far apart.
constexpr int64_t kBlocksPerCell = 256;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Lanes along the line, so that for w = 2, 4, …, 2^k, 2^k·3, … dividing `lanes` those of one rank lie
// together: sorted by (l mod 2, l mod 4, …, l).
std::vector<int64_t> LaneSequence(int64_t lanes) {
  std::vector<int64_t> moduli;
  int64_t rest = lanes;
  int64_t modulus = 1;
  for (int64_t factor = 2; rest > 1; ++factor) {
    while (rest % factor == 0) {
      rest /= factor;
      modulus *= factor;
      moduli.push_back(modulus);
    }
  }
  std::vector<int64_t> sequence(static_cast<size_t>(lanes));
  std::iota(sequence.begin(), sequence.end(), int64_t{0});
  std::sort(sequence.begin(), sequence.end(), [&](int64_t a, int64_t b) {
    for (const int64_t m : moduli) {
      if (a % m != b % m) return a % m < b % m;
    }
    return false;
  });
  return sequence;
}

}  // namespace

Layout ChooseLayout(const LayoutHints& hints) {
  Layout layout;
  layout.rows = hints.rows;
  layout.shuffle = hints.shuffle;
  if (!hints.shuffle || hints.rows <= 1) return layout;
  const int64_t lanes = std::lcm(kBaseLanes, int64_t{hints.world});
  const bool pages_fit = hints.page_bytes * static_cast<double>(hints.rows) * hints.sources <=
                         static_cast<double>(kResidentPageBytes);
  int64_t window = std::max(hints.window, kMinWindow);
  int64_t block = 1;
  if (!pages_fit) {
    block = std::min(hints.page_rows, hints.rows / (kBlocksPerLane * lanes));
    window = std::max(window, block * lanes * 16);
  } else if (!hints.local && hints.media_bytes > 0) {
    block = static_cast<int64_t>(static_cast<double>(kBlockBytes) / hints.media_bytes);
    block = std::min({block, window / (lanes * kBlocksPerCell), hints.rows / (kBlocksPerLane * lanes)});
  }
  // Windows of one size: a short one at the end would hold an uneven choice of blocks.
  window = CeilDiv(hints.rows, std::max<int64_t>(1, hints.rows / window));
  if (hints.window > 0) window = hints.window;
  layout.block = std::max<int64_t>(block, 1);
  if (layout.block == 1 && hints.window == 0)
    return layout;  // a full permutation: nothing is gained by lanes
  layout.lanes = lanes;
  layout.window = CeilDiv(window, lanes) * lanes;
  return layout;
}

EpochOrder::EpochOrder(const Layout& layout, uint64_t seed, int64_t epoch)
    : layout_(layout),
      key_(Derive(seed, static_cast<uint64_t>(epoch))),
      blocks_(CeilDiv(layout.rows, layout.block), Derive(key_, kBlocks)) {
  HEADRACE_CHECK(layout.rows >= 1 && layout.block >= 1 && layout.lanes >= 1);
  if (layout_.window <= 0 || layout_.window >= layout_.rows) {
    layout_.window = CeilDiv(layout_.rows, layout_.lanes) * layout_.lanes;
  }
  HEADRACE_CHECK(layout_.window % layout_.lanes == 0);
  const int64_t last = blocks_.size() - 1;
  short_size_ = layout_.rows - last * layout_.block;
  short_at_ = blocks_.Inverse(last);
  lane_start_.resize(static_cast<size_t>(layout_.lanes));
  int64_t start = 0;
  for (const int64_t lane : LaneSequence(layout_.lanes)) {
    lane_start_[static_cast<size_t>(lane)] = start;
    start += lane < layout_.rows ? (layout_.rows - 1 - lane) / layout_.lanes + 1 : 0;
  }
}

int64_t EpochOrder::LineToOrdinal(int64_t place) const {
  const int64_t block = layout_.block;
  const int64_t before = short_at_ * block;
  if (place < before) return blocks_(place / block) * block + place % block;
  if (place < before + short_size_) return (blocks_.size() - 1) * block + (place - before);
  const int64_t after = place - before - short_size_;
  return blocks_(short_at_ + 1 + after / block) * block + after % block;
}

int64_t EpochOrder::Ordinal(int64_t position) const {
  HEADRACE_CHECK(position >= 0 && position < layout_.rows);
  if (!layout_.shuffle) return position;
  const int64_t lane = position % layout_.lanes;
  const int64_t index = position / layout_.lanes;
  const int64_t lane_rows = (layout_.rows - 1 - lane) / layout_.lanes + 1;
  const int64_t share = layout_.window / layout_.lanes;
  const int64_t window = index / share;
  const int64_t begin = window * share;
  const int64_t size = std::min(share, lane_rows - begin);
  const uint64_t cell =
      Derive(Derive(Derive(key_, kCells), static_cast<uint64_t>(window)), static_cast<uint64_t>(lane));
  const int64_t inside = Permutation(size, cell)(index - begin);
  return LineToOrdinal(lane_start_[static_cast<size_t>(lane)] + begin + inside);
}

}  // namespace headrace::stream
