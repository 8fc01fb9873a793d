// Schedule: what the next step computes. Decodes first: whoever is streaming gets a row in every step. Then
// prefill fills what the longest allowed gap between tokens leaves (chunked prefill: Agrawal et al. 2024,
// Sarathi-Serve, arXiv:2403.02310), in seconds by the cost table, not in tokens.
//
// Pure: it sees sizes, not requests.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/cost_table.h"

namespace headrace::engine {

struct Work {
  int slot = 0;             // whose
  int adapter = -1;         // a step runs with one adapter
  int32_t decode_rows = 0;  // 1 + drafted tokens where it is decoding, 0 while it prefills
  int32_t prefill_left = 0;
  int32_t position = 0;     // tokens of its path that are computed
  double waited = 0;        // seconds since its last row: the longest waiting prefills first
  bool fresh = false;       // it has had no row yet
  int32_t share = 1;        // requests of its key that run: who has fewer prefills before who has more
  bool interactive = true;  // its user watches tokens arrive
};

struct Share {
  int slot = 0;
  int32_t rows = 0;
};

struct ScheduleLimits {
  int32_t max_rows = 512;  // of one step
  double max_gap = 0;  // seconds a step may take while somebody is decoding (--max-itl); 0: see WatchedRows
  int32_t least_chunk = 16;  // prefill always moves by this much
  int32_t tile = 64;  // large steps are cut to multiples of this: attention works in tiles of 64 rows, and 66
                      // rows take as long as 128 (measured: 64 rows 200 ms, 66 rows 400)
  int32_t grid = 0;   // deterministic: chunks end on multiples of this, one slot a step
  bool apart = false;  // who decodes and who prefills take turns, step by step (CostTable::ChooseApart)
};

// Attention works in tiles of `tile` rows, and a tile looks at every cell that any of its rows sees: with
// many users in one cache that is nearly all of it. Below a tile each row looks at its own cells only. So
// where at least so many run, a step stays at three quarters of a tile (on 2 cores, 32 users with 7,000
// cells: 240 rows a second in steps of 70 rows, 400 in steps of 63).
inline constexpr int32_t kCrowd = 8;
// A prompt of a key that runs so many times fewer requests than the crowd's takes turns with it, alone: its
// key would have half of the time if it had more to do. In a cache that many share its cells lie scattered,
// so its steps stay below a tile as well, and a turn is several of them, up to about 256 rows.
inline constexpr int32_t kGuestShare = 4;

// The rows of the next step; empty where there is nothing to do. `adapter` is the one whose turn it is.
std::vector<Share> Schedule(std::span<const Work> work, int adapter, const ScheduleLimits& limits,
                            const CostTable& costs, int threads);

// A step of those that decode with this adapter, alone.
StepShape DecodingStep(std::span<const Work> work, int adapter);

// The rows of prefill that may join a step, or be one, while somebody watches: what --max-itl leaves time for
// (a part of it: steps vary), or, where none is given, up to 256 rows in all, or as many as take 0.1 s. (On 2
// cores chunks of 256 to 512 rows prefill 4,000 tokens equally fast.)
int32_t WatchedRows(const ScheduleLimits& limits, const StepShape& step, const StepShape& other_turn,
                    const Work& work, bool first, int32_t most, const CostTable& costs, int threads);

// Whose turn it is among adapters with work: the current one for `quantum` steps, then the next in ascending
// order. Switching costs about 3 ms, so it is not done at every step.
class AdapterTurn {
 public:
  explicit AdapterTurn(int quantum = 8) : quantum_(quantum) {}
  int Next(std::span<const Work> work);

 private:
  int quantum_;
  int current_ = -1;
  int used_ = 0;
};

}  // namespace headrace::engine
