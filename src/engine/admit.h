// Admit: how many cells a request is given before it begins, and who gives way when there are none left.
// Answers are usually far shorter than their limit, so a request is admitted by what answers have been
// taking, not by its limit; the cost of a wrong guess is a preemption, and after two of them a request holds
// all it may need.
//
// Pure; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace headrace::engine {

class Admit {
 public:
  // `guess`: tokens that an answer is taken to have before any was seen.
  explicit Admit(double guess) : mean_(guess * 2 / 3), deviation_(guess / 3) {}

  // Tokens an answer is expected to take: the mean of those seen plus their mean deviation.
  int32_t ExpectedAnswer(int32_t limit) const;
  void Finished(int32_t answer_tokens);

  // Cells to hold for a request with `uncached` tokens of prompt and an answer of at most `limit` more.
  int64_t Reservation(int32_t uncached, int32_t limit, int preemptions) const;

 private:
  double mean_, deviation_;
};

struct Running {
  int slot = 0;
  double started = 0;
  int priority = 0;
  int preemptions = 0;
  bool reserved = false;  // it holds all it may need: never preempted
};

// Who gives way: the lowest priority, then the youngest; -1 where nobody may be preempted.
int ChooseVictim(std::span<const Running> running);

struct Idle {
  int path = 0;
  int32_t exclusive = 0;  // cells it would free
  double last_used = 0;
};

// Cached paths to let go, in order, until `cells` are free (or paths, where `need_path`): the least recently
// used first, those that free nothing skipped unless ids are what is missing.
std::vector<int> ChooseEvictions(std::span<const Idle> idle, int64_t cells, bool need_path);

}  // namespace headrace::engine
