#include "engine/schedule.h"

#include <algorithm>
#include <set>

namespace headrace::engine {
namespace {

using Candidates = std::vector<const Candidate*>;

bool LongestFirst(const Candidate* a, const Candidate* b) {
  return a->waited != b->waited ? a->waited > b->waited : a->slot < b->slot;
}

// Those with this adapter, in order. Prompts: who has waited too long, then those of keys that run fewer
// requests, then who has waited longest.
Joining OfAdapter(std::span<const Candidate> candidates, int adapter, double patience) {
  Joining all;
  for (const Candidate& c : candidates) {
    if (c.adapter != adapter) continue;
    if (c.decode_rows > 0) all.decoding.push_back(&c);
    if (c.decode_rows == 0 && c.prefill_left > 0) all.prefilling.push_back(&c);
  }
  std::sort(all.decoding.begin(), all.decoding.end(), LongestFirst);
  std::sort(all.prefilling.begin(), all.prefilling.end(), [&](const Candidate* a, const Candidate* b) {
    const bool late_a = a->waited > patience, late_b = b->waited > patience;
    if (late_a != late_b) return late_a;
    if (!late_a && a->key_running != b->key_running) return a->key_running < b->key_running;
    return LongestFirst(a, b);
  });
  all.watched = std::any_of(all.decoding.begin(), all.decoding.end(),
                            [](const Candidate* c) { return c->interactive; });
  return all;
}

// Deterministic: one sequence a step, whoever has waited longest, to the next multiple of the grid.
std::vector<Scheduled> OneOnTheGrid(const Joining& all, const ScheduleLimits& limits) {
  Candidates both = all.decoding;
  both.insert(both.end(), all.prefilling.begin(), all.prefilling.end());
  if (both.empty()) return {};
  const Candidate* next = *std::min_element(both.begin(), both.end(), LongestFirst);
  if (next->decode_rows > 0) return {{next->slot, 1}};
  const int32_t to_grid = limits.grid - next->position % limits.grid;
  return {{next->slot, std::min({next->prefill_left, to_grid, limits.max_rows})}};
}

// Seconds since the crowd's last step began, up to which a light key's prompt goes on: that step, and as much
// as a chunk of the prompt takes. Where --max-itl is given, its chunks are as long as that allows, one a
// turn.
double LightTurnSeconds(const StepShape& crowd, const ScheduleLimits& limits, const CostTable& costs,
                        int threads) {
  if (limits.max_gap > 0) return 0;
  StepShape chunk;
  chunk.rows = limits.machine.chunk;
  return costs.Predict(crowd, threads) + costs.Predict(chunk, threads);
}

enum class Turns { kTogether, kAlternate, kLightPrompt };

// What holds where many run. Cuts the step below a tile, and says who takes turns with whom.
Turns AmongMany(Joining* joining, const StepShape& crowd, const ScheduleLimits& limits,
                const CostTable& costs, int threads) {
  const MachineProfile& machine = limits.machine;
  Candidates& decoding = joining->decoding;
  Candidates& prefilling = joining->prefilling;
  // A long prompt is sooner done in large chunks of its own.
  const bool long_prompt = !prefilling.empty() && prefilling.front()->prefill_left > machine.chunk;
  if (decoding.empty()) {
    if (!long_prompt) joining->max_rows = std::min(joining->max_rows, machine.tile - 1);
    return Turns::kTogether;
  }
  const bool no_room = static_cast<int32_t>(decoding.size()) + machine.least_room >= machine.tile;
  const Turns usual = no_room || long_prompt ? Turns::kAlternate : Turns::kTogether;
  if (usual == Turns::kTogether) joining->max_rows = std::min(joining->max_rows, machine.tile * 3 / 4);
  int32_t most_of_a_key = 0;
  for (const Candidate* c : decoding) most_of_a_key = std::max(most_of_a_key, c->key_running);
  const auto light = std::find_if(prefilling.begin(), prefilling.end(), [&](const Candidate* c) {
    return c->key_running * machine.light_ratio <= most_of_a_key;
  });
  if (light == prefilling.end()) return usual;
  const double crowd_waited = decoding.front()->waited;
  if ((*light)->just_begun || (*light)->waited >= crowd_waited ||
      crowd_waited < LightTurnSeconds(crowd, limits, costs, threads)) {
    prefilling = {*light};
    return Turns::kLightPrompt;
  }
  prefilling.erase(light);
  return Turns::kTogether;
}

}  // namespace

int AdapterTurn::Next(std::span<const Candidate> candidates) {
  std::set<int> waiting;
  for (const Candidate& c : candidates) waiting.insert(c.adapter);
  if (waiting.empty()) return current_;
  if (waiting.count(current_) != 0 && (used_ < quantum_ || waiting.size() == 1)) {
    ++used_;
    return current_;
  }
  const auto next = waiting.upper_bound(current_);
  current_ = next == waiting.end() ? *waiting.begin() : *next;
  used_ = 1;
  return current_;
}

StepShape DecodingStep(std::span<const Candidate> candidates, int adapter) {
  StepShape step;
  for (const Candidate& c : candidates) {
    if (c.adapter != adapter) continue;
    step.rows += c.decode_rows;
    step.outputs += c.decode_rows;
    step.attended += static_cast<int64_t>(c.decode_rows) * c.position;
  }
  return step;
}

int32_t WatchedRows(const ScheduleLimits& limits, const StepShape& step, const StepShape& made_wait,
                    const Candidate& candidate, bool first, int32_t most, const CostTable& costs,
                    int threads) {
  const bool given = limits.max_gap > 0;
  double budget = given ? limits.machine.planned * limits.max_gap : limits.machine.short_gap;
  if (made_wait.rows > 0) budget -= costs.Predict(made_wait, threads);
  const int32_t fits = costs.RowsWithin(step, candidate.position, budget,
                                        first ? limits.machine.least_chunk : 0, most, threads);
  return given ? fits : std::min(most, std::max(fits, limits.machine.chunk - step.rows));
}

Joining WhoJoins(std::span<const Candidate> candidates, int adapter, const ScheduleLimits& limits,
                 const CostTable& costs, int threads) {
  Joining joining = OfAdapter(candidates, adapter, limits.machine.patience);
  joining.max_rows = limits.max_rows;
  Candidates& decoding = joining.decoding;
  Candidates& prefilling = joining.prefilling;
  const StepShape decodes = DecodingStep(candidates, adapter);
  Turns turns = limits.alternate ? Turns::kAlternate : Turns::kTogether;
  const auto count = static_cast<int32_t>(decoding.size() + prefilling.size());
  if (limits.machine.tile > 0 && count >= limits.machine.crowd) {
    const Turns among_many = AmongMany(&joining, decodes, limits, costs, threads);
    if (!decoding.empty()) turns = among_many;
  }
  if (turns == Turns::kTogether || decoding.empty() || prefilling.empty()) return joining;
  const bool decoders_turn = turns == Turns::kAlternate &&
                             decoding.front()->waited > prefilling.back()->waited &&
                             !prefilling.back()->just_begun;
  if (decoders_turn) {
    prefilling.clear();
    return joining;
  }
  decoding.clear();
  joining.made_wait = decodes;
  joining.max_rows =
      turns == Turns::kLightPrompt ? std::min(limits.max_rows, limits.machine.tile - 1) : limits.max_rows;
  return joining;
}

std::vector<Scheduled> RowsOfEach(const Joining& joining, const ScheduleLimits& limits,
                                  const CostTable& costs, int threads) {
  const Candidates& decoding = joining.decoding;
  std::vector<Scheduled> plan;
  StepShape shape;
  const auto add_decodes = [&](Scheduled* to, const Candidate& c, int32_t rows) {
    to->rows += rows;
    shape.rows += rows;
    shape.outputs += rows;
    shape.attended += static_cast<int64_t>(rows) * c.position;
  };
  // Every decoder gets one row before any gets its drafts.
  for (const Candidate* c : decoding) {
    if (shape.rows >= joining.max_rows) break;
    plan.push_back({c->slot, 0});
    add_decodes(&plan.back(), *c, 1);
  }
  for (size_t i = 0; i < plan.size(); ++i) {
    const int32_t more = std::min(decoding[i]->decode_rows - 1, joining.max_rows - shape.rows);
    if (more > 0) add_decodes(&plan[i], *decoding[i], more);
  }
  shape.piggybacked = shape.rows;
  for (const Candidate* c : joining.prefilling) {
    int32_t rows = std::min(c->prefill_left, joining.max_rows - shape.rows);
    if (rows > 0 && joining.watched) {
      // The first in line always moves on; those behind it only if there is time left.
      const bool first = plan.size() == decoding.size();
      rows = WatchedRows(limits, shape, joining.made_wait, *c, first, rows, costs, threads);
    }
    if (rows <= 0) break;
    // Large steps are cut to whole tiles: a row more takes as long as a tile.
    const int32_t tile = limits.machine.tile, total = shape.rows + rows;
    if (tile > 0 && rows < c->prefill_left && total > tile)
      rows = std::max(total / tile * tile - shape.rows, 1);
    plan.push_back({c->slot, rows});
    shape.rows += rows;
    shape.outputs += rows == c->prefill_left ? 1 : 0;
    shape.attended += static_cast<int64_t>(rows) * c->position + static_cast<int64_t>(rows) * rows / 2;
  }
  return plan;
}

std::vector<Scheduled> Schedule(std::span<const Candidate> candidates, int adapter,
                                const ScheduleLimits& limits, const CostTable& costs, int threads) {
  if (limits.grid > 0) return OneOnTheGrid(OfAdapter(candidates, adapter, limits.machine.patience), limits);
  return RowsOfEach(WhoJoins(candidates, adapter, limits, costs, threads), limits, costs, threads);
}

}  // namespace headrace::engine
