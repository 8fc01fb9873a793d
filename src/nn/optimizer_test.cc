#include "nn/optimizer.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace headrace::nn {
namespace {

Parameter RandomParameter(int64_t size, std::mt19937* random) {
  std::normal_distribution<float> normal;
  Parameter parameter{"p", 1, size, std::vector<float>(static_cast<size_t>(size)),
                      std::vector<float>(static_cast<size_t>(size))};
  for (float& value : parameter.values) value = normal(*random);
  return parameter;
}

TEST(AdamWTest, IsThePapersInFloat64) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  Parameter parameter = RandomParameter(100, &random);
  std::vector<double> values(parameter.values.begin(), parameter.values.end());
  std::vector<double> first(100);
  std::vector<double> second(100);
  AdamW optimizer({.beta1 = 0.8F, .beta2 = 0.95F, .epsilon = 1e-6F, .decay = 0.1F});
  for (int step = 1; step <= 30; ++step) {
    const double rate = 0.01 / step;
    for (float& value : parameter.gradient) value = normal(random);
    optimizer.Step({&parameter}, rate);
    for (size_t i = 0; i < 100; ++i) {
      const double g = parameter.gradient[i];
      first[i] = 0.8 * first[i] + 0.2 * g;
      second[i] = 0.95 * second[i] + 0.05 * g * g;
      const double m = first[i] / (1 - std::pow(0.8, step));
      const double v = second[i] / (1 - std::pow(0.95, step));
      values[i] -= rate * 0.1 * values[i];
      values[i] -= rate * m / (std::sqrt(v) + 1e-6);
    }
  }
  for (size_t i = 0; i < 100; ++i) EXPECT_NEAR(parameter.values[i], values[i], 1e-5);
  EXPECT_EQ(optimizer.steps(), 30);
}

TEST(AdamWTest, GoesOnFromItsMomentsBitForBit) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  Parameter straight = RandomParameter(50, &random);
  Parameter resumed = straight;
  std::vector<std::vector<float>> gradients(20, std::vector<float>(50));
  for (auto& gradient : gradients)
    for (float& value : gradient) value = normal(random);
  AdamW one;
  auto two = std::make_unique<AdamW>();
  for (size_t step = 0; step < 20; ++step) {
    if (step == 7) {
      auto next = std::make_unique<AdamW>();
      next->Restore(two->steps(), two->moments());
      two = std::move(next);
    }
    straight.gradient = resumed.gradient = gradients[step];
    one.Step({&straight}, 1e-3);
    two->Step({&resumed}, 1e-3);
  }
  EXPECT_EQ(straight.values, resumed.values);
}

TEST(GradientTest, NormAndScale) {
  Parameter a{"a", 1, 2, {0, 0}, {3, 0}};
  Parameter b{"b", 1, 1, {0}, {4}};
  EXPECT_DOUBLE_EQ(GradientNorm({&a, &b}), 5);
  ScaleGradients({&a, &b}, 0.5F);
  EXPECT_DOUBLE_EQ(GradientNorm({&a, &b}), 2.5);
  a.gradient[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(GradientNorm({&a, &b})));
  ClearGradients({&a, &b});
  EXPECT_EQ(GradientNorm({&a, &b}), 0);
}

TEST(ScheduleTest, WarmsUpAndDecays) {
  ScheduleOptions options{.rate = 1, .steps = 110, .warmup = 10, .decay = Decay::kLinear, .last = 0.1};
  EXPECT_NEAR(RateOf(options, 0), 1.0 / 11, 1e-12);
  for (int64_t step = 1; step <= 10; ++step) EXPECT_GT(RateOf(options, step), RateOf(options, step - 1));
  EXPECT_DOUBLE_EQ(RateOf(options, 10), 1);
  EXPECT_NEAR(RateOf(options, 60), 0.55, 1e-12);
  EXPECT_NEAR(RateOf(options, 110), 0.1, 1e-12);
  options.decay = Decay::kCosine;
  EXPECT_NEAR(RateOf(options, 60), 0.55, 1e-12);
  EXPECT_NEAR(RateOf(options, 35), 0.1 + 0.9 * 0.5 * (1 + std::cos(M_PI / 4)), 1e-12);
  options.decay = Decay::kConstant;
  EXPECT_EQ(RateOf(options, 109), 1);
  options.decay = Decay::kStable;  // the last 11 of 110
  EXPECT_EQ(RateOf(options, 99), 1);
  EXPECT_NEAR(RateOf(options, 104), 0.1 + 0.9 * (1 - 5.0 / 11), 1e-9);
  EXPECT_NEAR(RateOf(options, 110), 0.1, 1e-9);
  EXPECT_EQ(RateOf({.rate = 2, .steps = 0}, 0), 0);  // nothing to do, and nothing divided by
}

}  // namespace
}  // namespace headrace::nn
