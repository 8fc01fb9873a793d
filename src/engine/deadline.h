// Deadline: an answer that comes after its deadline is worth nothing, and what was computed for it is lost.
// So a request with a deadline begins only while it, and those that run, can be done in time; it runs among
// no more others than the machine gets something out of (beyond that number, more at once makes each of them
// later and none sooner); it is told at once when it cannot be answered in time even alone; and under
// pressure the newest goes first, whose client is the likeliest to be there still (adaptive LIFO: Maurer,
// "Fail at Scale", ACM Queue 2015). Requests without deadlines keep their order and their number.
//
// Pure.
#pragma once

#include <cstdint>
#include <span>

#include "engine/cost_table.h"

namespace headrace::engine {

struct Timed {
  int32_t prefill = 0;  // rows that are left
  int32_t decode = 0;   // tokens that are left, as far as can be told
  double deadline = 0;  // on the caller's clock; 0: none
};

// The number of requests beyond which twice as many decode less than 1.25 times as many tokens a second.
int32_t Knee(const CostTable& costs, int threads, int32_t most);

// Whether `next` may begin at `now` beside `running`: it would be in time, and nobody is late on its account.
bool MayBeginInTime(const Timed& next, std::span<const Timed> running, double now, const CostTable& costs,
                    int threads);

// Whether `next` would be late even if it were alone and steps took half of what they are expected to.
bool Hopeless(const Timed& next, double now, const CostTable& costs, int threads);

// Whether somebody who came at `submitted` has waited so long that the newest should go first.
bool Pressed(double submitted, double deadline, double now);

}  // namespace headrace::engine
