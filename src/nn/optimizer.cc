#include "nn/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "nn/kernels.h"

namespace headrace::nn {
namespace {

// How a step of AdamW changes one value.
struct Change {
  float beta1, beta2, epsilon;
  float size;        // rate / (1 - beta1^t)
  float correction;  // 1 / sqrt(1 - beta2^t)
  float shrink;      // 1 - rate · decay
};

HEADRACE_KERNEL void Update(const Change& change, const float* gradient, int64_t count, float* value,
                            float* first, float* second) {
  for (int64_t i = 0; i < count; ++i) {
    first[i] = change.beta1 * first[i] + (1 - change.beta1) * gradient[i];
    second[i] = change.beta2 * second[i] + (1 - change.beta2) * gradient[i] * gradient[i];
    value[i] = value[i] * change.shrink -
               change.size * first[i] / (__builtin_sqrtf(second[i]) * change.correction + change.epsilon);
  }
}

}  // namespace

double GradientNorm(const std::vector<Parameter*>& parameters) {
  double sum = 0;
  for (const Parameter* parameter : parameters)
    for (const float value : parameter->gradient) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

void ScaleGradients(const std::vector<Parameter*>& parameters, float factor) {
  for (Parameter* parameter : parameters)
    for (float& value : parameter->gradient) value *= factor;
}

void ClearGradients(const std::vector<Parameter*>& parameters) {
  for (Parameter* parameter : parameters)
    std::fill(parameter->gradient.begin(), parameter->gradient.end(), 0.0F);
}

void AdamW::Step(const std::vector<Parameter*>& parameters, double rate) {
  if (moments_.empty()) {
    for (const Parameter* parameter : parameters)
      moments_.push_back(
          {std::vector<float>(parameter->values.size()), std::vector<float>(parameter->values.size())});
  }
  HEADRACE_CHECK(moments_.size() == parameters.size());
  ++steps_;
  const auto t = static_cast<double>(steps_);
  const Change change = {
      .beta1 = options_.beta1,
      .beta2 = options_.beta2,
      .epsilon = options_.epsilon,
      .size = static_cast<float>(rate / (1 - std::pow(static_cast<double>(options_.beta1), t))),
      .correction = static_cast<float>(1 / std::sqrt(1 - std::pow(static_cast<double>(options_.beta2), t))),
      .shrink = static_cast<float>(1 - rate * static_cast<double>(options_.decay)),
  };
  for (size_t i = 0; i < parameters.size(); ++i) {
    Parameter& parameter = *parameters[i];
    Moments& moments = moments_[i];
    HEADRACE_CHECK(moments.first.size() == parameter.values.size() &&
                   moments.second.size() == moments.first.size());
    Update(change, parameter.gradient.data(), static_cast<int64_t>(parameter.values.size()),
           parameter.values.data(), moments.first.data(), moments.second.data());
  }
}

double RateOf(const ScheduleOptions& options, int64_t step) {
  if (step < options.warmup)
    return options.rate * static_cast<double>(step + 1) / static_cast<double>(options.warmup + 1);
  const auto left = static_cast<double>(options.steps - options.warmup);
  const double done = left <= 0 ? 1 : std::min(1.0, static_cast<double>(step - options.warmup) / left);
  const auto between = [&](double share) {
    return options.rate * (options.last + (1 - options.last) * share);
  };
  switch (options.decay) {
    case Decay::kConstant:
      return options.rate;
    case Decay::kLinear:
      return between(1 - done);
    case Decay::kCosine:
      return between(0.5 * (1 + std::cos(std::numbers::pi * done)));
    case Decay::kStable: {
      const double from = options.steps <= 0 ? 0
                                             : 1 - options.decay_share * static_cast<double>(options.steps) /
                                                       std::max(1.0, left);
      return done <= from ? options.rate : between(1 - (done - from) / (1 - from));
    }
  }
  return options.rate;
}

}  // namespace headrace::nn
