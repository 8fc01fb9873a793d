// Drawer: the tokens that a step's rows say, by the sampler under the grammar's mask. Rows of different
// requests know nothing of each other, so several threads draw at once (a mask of a bounded string takes
// milliseconds); a request's random numbers are its own, so which thread draws changes nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/task_pool.h"
#include "engine/grammar.h"
#include "engine/sampler.h"

namespace headrace::engine {

struct Draw {
  std::span<const float> logits;
  const Sampling* sampling = nullptr;
  const History* history = nullptr;
  Matcher* matcher = nullptr;  // null: every token may come
  uint64_t n = 0;              // which of the request's random numbers
  Token token = -1;            // the result; -1: no token may
};

class Drawer {
 public:
  Drawer(int32_t vocabulary, int threads);

  Token One(const Draw& draw) { return DrawWith(hands_.front().get(), draw); }
  // All of them; each of another request.
  void Together(std::span<Draw> draws);

 private:
  struct Hand {  // what a thread needs
    explicit Hand(int32_t vocabulary);
    Sampler sampler;
    std::vector<int32_t> mask;
  };
  static Token DrawWith(Hand* hand, const Draw& draw);

  std::vector<std::unique_ptr<Hand>> hands_;
  std::unique_ptr<TaskPool> others_;  // null: the caller alone
};

}  // namespace headrace::engine
