// Documents of tokens into rows of a fixed length, planned per window of positions from their lengths alone.
#pragma once

#include <cstdint>
#include <vector>

namespace headrace::stream {

// A token range of one document in a packed row.
struct Piece {
  int32_t document = 0;  // index in the window
  int32_t begin = 0;     // first token of the document
  int32_t length = 0;
};
using PackedRow = std::vector<Piece>;

struct PackPlan {
  std::vector<PackedRow> rows;
  int64_t tokens = 0;   // placed
  int64_t dropped = 0;  // cut off (truncate)
};

// First-fit decreasing (Johnson, 1973: at most 11/9 of the best, plus 1) over documents cut to at most
// `length` tokens: what is longer continues in another row, or ends there with `truncate`. Empty documents
// take no room. The rows' order is permuted with `key`, so that full and short rows mix.
PackPlan PlanPacking(const std::vector<int64_t>& lengths, int64_t length, bool truncate, uint64_t key);

}  // namespace headrace::stream
