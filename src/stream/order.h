// The shuffled order: which ordinal is at which position of an epoch. A pure function of a few numbers that
// every checkpoint holds; docs/format/order.md is its specification.
//
// An ordinal is the rank of a selected row in the order of a scan. Ordinals lie in blocks of `block`; a keyed
// permutation lays the blocks end to end on a line; the line is cut into `lanes` nearly equal lanes; position
// p is taken from lane p mod lanes, so that a rank whose world divides `lanes` touches its own blocks only.
// Inside a lane, each window's share is permuted again.
#pragma once

#include <cstdint>
#include <vector>

#include "stream/permute.h"

namespace headrace::stream {

struct Layout {
  int64_t rows = 0;    // n: selected rows, at least 1
  int64_t block = 1;   // B: ordinals of a block
  int64_t lanes = 1;   // C
  int64_t window = 0;  // W: samples of a window, a multiple of lanes; 0 or >= rows: one window
  bool shuffle = true;
  bool operator==(const Layout&) const = default;
};

// Pages of so many bytes are taken to stay in memory, on any machine: what a stream has for pages by default
// where a machine has 8 GiB (a quarter of a quarter).
constexpr int64_t kResidentPageBytes = int64_t{512} << 20;

// What a layout is chosen from.
struct LayoutHints {
  int64_t rows = 0;
  double media_bytes = 0;    // a row's mean bytes in blobs and tensors that are read one by one
  double page_bytes = 0;     // a row's mean bytes in pages, which are read 2,048 rows at a time
  int64_t page_rows = 2048;  // rows that pages are read by
  bool local = true;         // reading one row costs no round trip
  int sources = 1;           // of a mixture: they share what pages may take
  int world = 1;
  int64_t window = 0;  // as asked for; 0: choose
  bool shuffle = true;
};
// A function of the snapshot, the options and the number of ranks, never of the machine: ranks on machines of
// different memory must walk one and the same order. The same for every world size that divides 48.
// Blocks of one where rows can be read one by one; otherwise blocks of about 1 MiB, or of whole pages where
// pages have more than kResidentPageBytes, in lanes of which there are a multiple of 48 and of the world
// size.
Layout ChooseLayout(const LayoutHints& hints);

// One epoch of one source.
class EpochOrder {
 public:
  EpochOrder(const Layout& layout, uint64_t seed, int64_t epoch);
  const Layout& layout() const { return layout_; }
  // `position` in [0, rows).
  int64_t Ordinal(int64_t position) const;

 private:
  int64_t LineToOrdinal(int64_t place) const;

  Layout layout_;
  uint64_t key_;
  Permutation blocks_;
  int64_t short_at_ = 0;    // place, in blocks, of the last block, which may be short
  int64_t short_size_ = 0;  // its ordinals
  std::vector<int64_t> lane_start_;
};

}  // namespace headrace::stream
