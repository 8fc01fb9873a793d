// Arithmetic: what this model can do on this machine, worked out and measured side by side. Decoding one
// stream reads all weights for each token, so memory bandwidth is its ceiling; many rows at once read them
// once, so arithmetic is (Pope et al. 2022, arXiv:2211.05102).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/model.h"

namespace headrace::model {

// Bytes a second that `threads` threads read together from memory, best of three over a buffer larger than
// caches of most machines (1 GB).
double MeasureBandwidth(int threads);

struct MeasuredStep {
  int32_t rows = 0;
  bool outputs = false;  // every row wants logits (decoding) or only the last (prefill)
  double seconds = 0;    // median of several
};
// Steps of 1, 2, 4, … rows with outputs, and prefill of 128 and 512.
Result<std::vector<MeasuredStep>> MeasureSteps(Decoder* decoder, int threads);

// Bytes that programs may still take, as Linux sees it (MemAvailable); 0 where it does not say.
int64_t AvailableMemory();

struct Arithmetic {
  double bandwidth = 0;         // bytes a second
  double decode_ceiling = 0;    // tokens a second of one stream: bandwidth ÷ weights
  double binding_batch = 0;     // rows at which a step takes twice as long as with one
  int64_t free_memory = 0;      // bytes
  int64_t tokens_that_fit = 0;  // of cache, in that memory less the weights
  std::vector<MeasuredStep> steps;
};
Result<Arithmetic> Work(const std::shared_ptr<const Model>& model, int threads);

}  // namespace headrace::model
