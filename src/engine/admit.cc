#include "engine/admit.h"

#include <algorithm>
#include <cmath>

namespace headrace::engine {

int32_t Admit::ExpectedAnswer(int32_t limit) const {
  return std::min(limit, static_cast<int32_t>(std::lround(mean_ + deviation_)));
}

void Admit::Finished(int32_t answer_tokens) {
  const double error = answer_tokens - mean_;
  mean_ += error / 16;
  deviation_ += (std::abs(error) - deviation_) / 16;
}

int64_t Admit::Reservation(int32_t uncached, int32_t limit, int preemptions) const {
  return int64_t{uncached} + (preemptions >= 2 ? limit : ExpectedAnswer(limit));
}

int ChooseVictim(std::span<const Running> running) {
  const Running* victim = nullptr;
  for (const Running& r : running) {
    if (r.reserved) continue;
    if (victim == nullptr || r.priority < victim->priority ||
        (r.priority == victim->priority && r.started > victim->started) ||
        (r.priority == victim->priority && r.started == victim->started && r.slot > victim->slot))
      victim = &r;
  }
  return victim == nullptr ? -1 : victim->slot;
}

std::vector<int> ChooseEvictions(std::span<const Idle> idle, int64_t cells, bool need_path) {
  std::vector<Idle> order(idle.begin(), idle.end());
  std::sort(order.begin(), order.end(), [](const Idle& a, const Idle& b) {
    return a.last_used != b.last_used ? a.last_used < b.last_used : a.path < b.path;
  });
  std::vector<int> result;
  for (const Idle& i : order) {
    if (cells <= 0 && !need_path) break;
    if (i.exclusive == 0 && !need_path) continue;
    result.push_back(i.path);
    cells -= i.exclusive;
    need_path = false;
  }
  return result;
}

}  // namespace headrace::engine
