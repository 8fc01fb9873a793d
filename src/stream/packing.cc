#include "stream/packing.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "stream/permute.h"

namespace headrace::stream {

PackPlan PlanPacking(const std::vector<int64_t>& lengths, int64_t length, bool truncate, uint64_t key) {
  HEADRACE_CHECK(length >= 1);
  std::vector<Piece> pieces;
  PackPlan plan;
  for (size_t d = 0; d < lengths.size(); ++d) {
    const int64_t whole = lengths[d];
    const int64_t used = truncate ? std::min(whole, length) : whole;
    plan.dropped += whole - used;
    for (int64_t begin = 0; begin < used; begin += length) {
      pieces.push_back({static_cast<int32_t>(d), static_cast<int32_t>(begin),
                        static_cast<int32_t>(std::min(length, used - begin))});
    }
  }
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Piece& a, const Piece& b) { return a.length > b.length; });

  // First fit by a tree of maxima: the leftmost row with room, in log(rows).
  size_t leaves = 1;
  while (leaves < pieces.size()) leaves *= 2;
  std::vector<int64_t> room(2 * leaves, length);
  std::vector<PackedRow> rows;
  for (const Piece& piece : pieces) {
    size_t node = 1;
    while (node < leaves) node = room[2 * node] >= piece.length ? 2 * node : 2 * node + 1;
    const size_t row = node - leaves;
    if (row >= rows.size()) rows.resize(row + 1);
    rows[row].push_back(piece);
    plan.tokens += piece.length;
    room[node] -= piece.length;
    for (node /= 2; node >= 1; node /= 2) room[node] = std::max(room[2 * node], room[2 * node + 1]);
  }
  if (rows.empty()) return plan;
  const Permutation shuffle(static_cast<int64_t>(rows.size()), key);
  plan.rows.resize(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    plan.rows[i] = std::move(rows[static_cast<size_t>(shuffle(static_cast<int64_t>(i)))]);
  }
  return plan;
}

}  // namespace headrace::stream
