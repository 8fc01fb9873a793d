// A checkpoint of a stream: where it stands and what its order is computed from, in under 200 bytes for one
// source.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "stream/order.h"
#include "stream/steps.h"

namespace headrace::stream {

struct SourceState {
  int64_t version = 0;     // of the table's snapshot
  uint32_t selection = 0;  // low half of the selection's hash
  Layout layout;
  bool operator==(const SourceState&) const = default;
};

struct State {
  uint64_t seed = 0;
  Point point;
  int64_t packed = 0;  // packing: rows of the window at `point` that are done
  int64_t pack_length = 0;
  int64_t pack_window = 0;
  std::vector<SourceState> sources;
  bool operator==(const State&) const = default;

  // {"headrace": 1, "seed": …, "epoch": …, "position": …, "sources": [[version, hash, rows, B, C, W], …]}
  std::string ToJson() const;
  static Result<State> FromJson(const std::string& json);
};

}  // namespace headrace::stream
