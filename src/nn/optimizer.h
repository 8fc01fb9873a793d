// optimizer: what a step does to the trained values, once their gradients are there.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/linear.h"

namespace headrace::nn {

// Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization.
struct AdamWOptions {
  float beta1 = 0.9F;
  float beta2 = 0.999F;
  float epsilon = 1e-8F;
  float decay = 0;
};

// The square root of the sum of all squares, in float64 and in their order.
double GradientNorm(const std::vector<Parameter*>& parameters);
// All gradients times `factor`.
void ScaleGradients(const std::vector<Parameter*>& parameters, float factor);
void ClearGradients(const std::vector<Parameter*>& parameters);

class AdamW {
 public:
  explicit AdamW(AdamWOptions options = {}) : options_(options) {}

  // One step, with the learning rate of it. Always the same parameters, in the same order.
  void Step(const std::vector<Parameter*>& parameters, double rate);

  // For checkpoints: steps taken, and the moments of each parameter; empty before the first step.
  struct Moments {
    std::vector<float> first, second;
  };
  int64_t steps() const { return steps_; }
  const std::vector<Moments>& moments() const { return moments_; }
  void Restore(int64_t steps, std::vector<Moments> moments) {
    steps_ = steps;
    moments_ = std::move(moments);
  }

 private:
  AdamWOptions options_;
  int64_t steps_ = 0;
  std::vector<Moments> moments_;
};

enum class Decay : uint8_t {
  kConstant,
  kLinear,
  kCosine,
  kStable,  // warm-up, stable, decay (Hu et al. 2024, MiniCPM): constant, then linear over the last part
};

struct ScheduleOptions {
  double rate = 2e-4;
  int64_t steps = 0;
  int64_t warmup = 0;  // steps, from rate / warmup up
  Decay decay = Decay::kCosine;
  double last = 0;           // of `rate`, at the end
  double decay_share = 0.1;  // of the steps, with kStable
};

// The learning rate of a step, from 0 to steps - 1. At `warmup` it is `rate`, at `steps` it would be rate ·
// last.
double RateOf(const ScheduleOptions& options, int64_t step);

}  // namespace headrace::nn
