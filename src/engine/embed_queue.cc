#include "engine/embed_queue.h"

#include <algorithm>
#include <utility>

namespace headrace::engine {

// A key of weight 1 computes as many tokens in a round of all keys as one lane does in a step.
EmbedQueue::EmbedQueue(const Limits& limits, const MachineProfile& machine)
    : limits_(limits), machine_(machine), fair_(machine.lane_step) {}

void EmbedQueue::Push(EmbedText text) {
  fair_.Push(text.key, {.id = next_id_, .cost = static_cast<double>(text.tokens)});
  tokens_ += text.tokens;
  texts_[next_id_++] = std::move(text);
}

// Takes the next text for which `may` holds, as keys take turns.
template <typename May>
bool EmbedQueue::Pop(May may, EmbedText* text) {
  const auto id = fair_.Pop([&](uint64_t one) { return may(texts_.at(one).tokens); });
  if (!id) return false;
  const auto found = texts_.find(*id);
  *text = std::move(found->second);
  texts_.erase(found);
  tokens_ -= text->tokens;
  return true;
}

// One that was popped, and not taken: before all others of its key, at no cost.
void EmbedQueue::PutBack(EmbedText text) {
  const auto cost = static_cast<double>(text.tokens);
  fair_.Charge(text.key, -cost);
  fair_.PushFront(text.key, {.id = next_id_, .cost = cost});
  tokens_ += text.tokens;
  texts_[next_id_++] = std::move(text);
}

void EmbedQueue::RemoveIf(const std::function<bool(const EmbedText&)>& unwanted) {
  for (auto at = texts_.begin(); at != texts_.end();) {
    if (!unwanted(at->second)) {
      ++at;
      continue;
    }
    fair_.Remove(at->second.key, at->first);
    tokens_ -= at->second.tokens;
    at = texts_.erase(at);
  }
}

void EmbedQueue::ForEach(const std::function<void(const EmbedText&)>& see) const {
  for (const auto& [id, text] : texts_) see(text);
}

std::vector<EmbedStep> EmbedQueue::NextSteps() {
  const bool lanes =
      limits_.lanes > 1 && texts_.size() > 1 && tokens_ >= static_cast<size_t>(machine_.worth_lanes);
  EmbedText first;
  if (!Pop([](size_t) { return true; }, &first)) return {};
  const bool fits = first.tokens <= static_cast<size_t>(machine_.lane_rows);
  return lanes && fits ? LaneSteps(std::move(first)) : OneStep(std::move(first));
}

// A text of any length, and others beside it.
std::vector<EmbedStep> EmbedQueue::OneStep(EmbedText first) {
  size_t taken = first.tokens;
  const size_t room = std::max(std::min(limits_.max_rows, static_cast<size_t>(machine_.lane_rows)), taken);
  EmbedStep step = {std::move(first)};
  for (EmbedText text;
       step.size() < limits_.max_texts && Pop([&](size_t size) { return taken + size <= room; }, &text);) {
    taken += text.tokens;
    step.push_back(std::move(text));
  }
  return {std::move(step)};
}

// Steps of about lane_step tokens, as many for each lane, as even as can be: the next texts, longest first,
// into the step with the least.
std::vector<EmbedStep> EmbedQueue::LaneSteps(EmbedText first) {
  const auto most = static_cast<size_t>(machine_.lane_rows);
  size_t taken = first.tokens;
  const size_t turn = limits_.lanes * static_cast<size_t>(machine_.lane_step), all = tokens_ + taken;
  const size_t turns = std::min(static_cast<size_t>(machine_.lane_turns), (all + turn - 1) / turn);
  const size_t room = std::min(all, turns * turn);
  EmbedStep chosen = {std::move(first)};
  for (EmbedText text; taken < room && Pop([&](size_t size) { return size <= most; }, &text);) {
    taken += text.tokens;
    chosen.push_back(std::move(text));
  }
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const EmbedText& a, const EmbedText& b) { return a.tokens > b.tokens; });
  std::vector<EmbedStep> steps(turns * limits_.lanes);
  std::vector<size_t> filled(steps.size(), 0);
  for (EmbedText& text : chosen) {
    const auto least = static_cast<size_t>(std::min_element(filled.begin(), filled.end()) - filled.begin());
    if (filled[least] + text.tokens > most || steps[least].size() == limits_.max_texts) {
      PutBack(std::move(text));
      continue;
    }
    filled[least] += text.tokens;
    steps[least].push_back(std::move(text));
  }
  std::erase_if(steps, [](const EmbedStep& step) { return step.empty(); });
  return steps;
}

}  // namespace headrace::engine
