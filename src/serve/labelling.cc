#include "serve/labelling.h"

#include "base/clock.h"

namespace headrace::serve {

Labelling::~Labelling() {
  for (auto& [place, seat] : seats_) (void)seat.annotator->Close();  // what it cannot give back lapses
}

std::vector<std::shared_ptr<trace::Annotator>> Labelling::TakeIdle() {
  std::vector<std::shared_ptr<trace::Annotator>> idle;
  const double now = MonotonicSeconds();
  for (auto it = seats_.begin(); it != seats_.end();) {
    // One that is in use is held by its request, too.
    const bool unused = now - it->second.used > kIdleSeconds && it->second.annotator.use_count() == 1;
    if (unused) idle.push_back(std::move(it->second.annotator));
    it = unused ? seats_.erase(it) : std::next(it);
  }
  return idle;
}

Result<std::shared_ptr<trace::Annotator>> Labelling::For(const std::string& name, const std::string& who) {
  HEADRACE_ASSIGN(const trace::Queue queue, trace::FindQueue(*catalog_, name));
  const std::pair<std::string, std::string> place(queue.id.ToString(), who);
  std::vector<std::shared_ptr<trace::Annotator>> idle;
  {
    const std::lock_guard lock(mutex_);
    idle = TakeIdle();
    if (const auto found = seats_.find(place); found != seats_.end()) {
      found->second.used = MonotonicSeconds();
      return found->second.annotator;
    }
  }
  for (const auto& annotator : idle) (void)annotator->Close();  // what it cannot give back lapses
  const auto write = [recorder = recorder_](const nlohmann::json& row) {
    return recorder->Write(trace::Kind::kScore, row) ? Status::Ok()
                                                     : Status::Unavailable(recorder->stats().trouble);
  };
  HEADRACE_ASSIGN(
      auto opened,
      trace::Annotator::Open(catalog_, queue, {.who = who, .write = write, .idle_seconds = kIdleSeconds}));
  const std::lock_guard lock(mutex_);
  // Of two that were opened at once the first stays.
  const auto [seat, fresh] = seats_.try_emplace(place, Seat{nullptr, 0});
  if (fresh) {
    seat->second.annotator = std::move(opened);
  } else {
    (void)opened->Close();
  }
  seat->second.used = MonotonicSeconds();
  return seat->second.annotator;
}

}  // namespace headrace::serve
