// Schedule: what the next step computes. Decodes first: whoever is streaming gets a row in every step. Then
// prefill fills what the longest allowed gap between tokens leaves (chunked prefill, with decodes piggybacked
// on the chunks: Agrawal et al. 2024, Sarathi-Serve, arXiv:2403.02310), in seconds by the cost table, not in
// tokens. Two questions, one after the other: who joins the step, and how many rows does each get.
//
// Pure: it sees sizes, not requests.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/cost_table.h"
#include "engine/machine_profile.h"

namespace headrace::engine {

// A running request, as the schedule sees it.
struct Candidate {
  int slot = 0;             // its place among the running
  int adapter = -1;         // a step runs with one adapter
  int32_t decode_rows = 0;  // 1 + drafted tokens where it is decoding, 0 while it prefills
  int32_t prefill_left = 0;
  int32_t position = 0;     // tokens of its path that are computed
  double waited = 0;        // seconds since its last row: the longest waiting prefills first
  bool just_begun = false;  // it has had no row yet
  int32_t key_running = 1;  // requests of its key that run: who has fewer prefills before who has more
  bool interactive = true;  // its user watches tokens arrive
};

// What a request gets of the step (vLLM: num_scheduled_tokens).
struct Scheduled {
  int slot = 0;
  int32_t rows = 0;
};

struct ScheduleLimits {
  MachineProfile machine;
  int32_t max_rows = 512;  // of one step
  double max_gap = 0;  // seconds a step may take while somebody is decoding (--max-itl); 0: see WatchedRows
  int32_t grid = 0;    // deterministic: chunks end on multiples of this, one slot a step
  bool alternate = false;  // decodes and prefill take turns, step by step (CostTable::ChooseAlternate)
};

// Who may be in a step, in the order in which they get rows.
struct Joining {
  std::vector<const Candidate*> decoding, prefilling;
  int32_t max_rows = 0;
  bool watched = false;  // somebody who decodes watches tokens arrive: prefill is limited in time
  StepShape made_wait;   // the decodes that this step's prefill comes before; no rows: none
};
// `adapter` is the one whose turn it is.
//   Decodes and prefill share a step, unless the limits say that they alternate: then it is the turn of those
//   who have waited longer.
//   With many users (MachineProfile::crowd) a step stays below a tile of attention, at three quarters of one,
//   and long prompts alternate with decodes in chunks of their own.
//   The prompt of a light key (MachineProfile::light_ratio) alternates with the crowd, alone: its key would
//   have half of the time if it had more to do. In a cache that many share its cells lie scattered, so its
//   steps stay below a tile as well, and a turn is several of them, up to about a chunk.
Joining WhoJoins(std::span<const Candidate> candidates, int adapter, const ScheduleLimits& limits,
                 const CostTable& costs, int threads);

// How many rows each of them gets: every decoder one, then drafts, then prefill as far as time and rows
// allow.
std::vector<Scheduled> RowsOfEach(const Joining& joining, const ScheduleLimits& limits,
                                  const CostTable& costs, int threads);

// The rows of the next step: both questions. Empty where there is nothing to do.
std::vector<Scheduled> Schedule(std::span<const Candidate> candidates, int adapter,
                                const ScheduleLimits& limits, const CostTable& costs, int threads);

// A step of those that decode with this adapter, alone.
StepShape DecodingStep(std::span<const Candidate> candidates, int adapter);

// The rows of prefill that may join a step, or be one, while somebody watches: what --max-itl leaves time for
// (a part of it: steps vary), or, where none is given, up to a chunk in all, or as many as take no time that
// anybody sees.
int32_t WatchedRows(const ScheduleLimits& limits, const StepShape& step, const StepShape& made_wait,
                    const Candidate& candidate, bool first, int32_t most, const CostTable& costs,
                    int threads);

// Whose turn it is among adapters with work: the current one for `quantum` steps, then the next in ascending
// order. Switching takes time, so it is not done at every step (MachineProfile::adapter_steps).
class AdapterTurn {
 public:
  explicit AdapterTurn(int quantum) : quantum_(quantum) {}
  int Next(std::span<const Candidate> candidates);

 private:
  int quantum_;
  int current_ = -1;
  int used_ = 0;
};

}  // namespace headrace::engine
