// EmbedQueue: texts that wait for their vectors, and which of them are computed together next. Keys take
// turns (fair.h), a text at a time, by their tokens.
//
// Pure: it sees sizes, not texts. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/fair.h"
#include "engine/machine_profile.h"

namespace headrace::engine {

class EmbedCall;

// One text of a call.
struct EmbedText {
  std::shared_ptr<EmbedCall> call;
  size_t index = 0;
  size_t tokens = 0;
  std::string key = {};
};
// Texts that are computed in one step.
using EmbedStep = std::vector<EmbedText>;

class EmbedQueue {
 public:
  struct Limits {
    size_t lanes = 1;      // contexts that compute at once
    size_t max_rows = 0;   // tokens of one step
    size_t max_texts = 0;  // of one step
  };
  EmbedQueue() : EmbedQueue(Limits{}, MachineProfile{}) {}
  EmbedQueue(const Limits& limits, const MachineProfile& machine);

  void Push(EmbedText text);
  // One step for a context with all threads, or several for the lanes. Empty where nothing waits.
  std::vector<EmbedStep> NextSteps();
  void RemoveIf(const std::function<bool(const EmbedText&)>& unwanted);
  void ForEach(const std::function<void(const EmbedText&)>& see) const;

  void SetWeight(const std::string& key, double weight) { fair_.SetWeight(key, weight); }
  // Where there is no memory for lanes.
  void UseOneLane() { limits_.lanes = 1; }
  size_t size() const { return texts_.size(); }
  bool empty() const { return texts_.empty(); }
  size_t tokens() const { return tokens_; }  // of all

 private:
  template <typename May>
  bool Pop(May may, EmbedText* text);
  void PutBack(EmbedText text);
  std::vector<EmbedStep> OneStep(EmbedText first);
  std::vector<EmbedStep> LaneSteps(EmbedText first);

  Limits limits_;
  MachineProfile machine_;
  Fair fair_;                            // whose text is next; costs are tokens
  std::map<uint64_t, EmbedText> texts_;  // by their ids in fair_
  size_t tokens_ = 0;
  uint64_t next_id_ = 0;
};

}  // namespace headrace::engine
