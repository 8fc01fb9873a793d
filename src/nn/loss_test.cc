#include "nn/loss.h"

#include <gtest/gtest.h>

#include "nn/nn_testing.h"

namespace headrace::nn {
namespace {

template <typename T>
class LossTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!OneDnnMatmul()->Supports(DTypeOf<T>())) GTEST_SKIP() << "this processor has no such products";
  }
};
using Types = ::testing::Types<float, BF16>;
TYPED_TEST_SUITE(LossTest, Types);

TYPED_TEST(LossTest, CrossEntropyAndItsGradient) {
  using T = TypeParam;
  std::mt19937 random(11);
  for (const int64_t vocabulary : {1, 16, 33, 1000}) {
    Values<T> logits(20, vocabulary);
    Randomize(&random, &logits);
    for (T& value : logits.held) FromFloat(ToFloat(value) * 20, &value);  // far apart: nothing overflows
    const std::vector<double> before = logits.Wide();
    std::vector<int32_t> targets(20);
    for (int32_t& target : targets) target = static_cast<int32_t>(random() % vocabulary);
    std::vector<float> losses(20);
    CrossEntropy(logits.matrix, targets, 0.5F, losses);
    for (int64_t row = 0; row < 20; ++row) {
      const double* z = &before[static_cast<size_t>(row * vocabulary)];
      const double highest = *std::max_element(z, z + vocabulary);
      double sum = 0;
      for (int64_t i = 0; i < vocabulary; ++i) sum += std::exp(z[i] - highest);
      const double log_sum = highest + std::log(sum);
      const int32_t target = targets[static_cast<size_t>(row)];
      ASSERT_NEAR(losses[static_cast<size_t>(row)], log_sum - z[target],
                  8 * Rounding<float>() * (std::abs(log_sum) + std::abs(z[target]) + 1));
      for (int64_t i = 0; i < vocabulary; ++i) {
        const double slope = 0.5 * (std::exp(z[i] - log_sum) - (i == target ? 1 : 0));
        ASSERT_NEAR(logits.At(row, i), slope,
                    Rounding<T>() * std::abs(slope) + 8 * Rounding<float>() * (std::abs(log_sum) + 1));
      }
    }
  }
}

TYPED_TEST(LossTest, HeadIsProductAndLossOfAllRows) {
  using T = TypeParam;
  const int64_t rows = 2 * kLossRows + 3;  // a last piece of three
  const int64_t width = 24;
  const int64_t vocabulary = 50;
  std::mt19937 random(12);
  const auto matmul = OneDnnMatmul();
  Values<T> x(rows, width);
  Values<T> weights(vocabulary, width);
  Values<T> dx(rows, width);
  Randomize(&random, &x);
  Randomize(&random, &weights);
  std::vector<int32_t> targets(static_cast<size_t>(rows));
  for (int32_t& target : targets) target = static_cast<int32_t>(random() % vocabulary);
  std::vector<float> losses(targets.size());
  const auto forward = matmul->Pack(weights.matrix, Transpose::kYes);
  const auto backward = matmul->Pack(weights.matrix, Transpose::kNo);
  HeadLoss(matmul.get(), x.matrix, *forward, *backward, targets, 1, dx.matrix, losses);
  const auto loss_of = [&](const std::vector<double>& hidden, int64_t row) {
    std::vector<double> z(static_cast<size_t>(vocabulary));
    double sum = 0;
    for (int64_t i = 0; i < vocabulary; ++i) {
      for (int64_t j = 0; j < width; ++j)
        z[static_cast<size_t>(i)] += hidden[static_cast<size_t>(row * width + j)] * weights.At(i, j);
      sum += std::exp(z[static_cast<size_t>(i)]);
    }
    return std::log(sum) - z[static_cast<size_t>(targets[static_cast<size_t>(row)])];
  };
  const std::vector<double> wide = x.Wide();
  for (int64_t row = 0; row < rows; ++row) {
    // Logits are sums of `width` products of about 1, rounded to T.
    const double logit = std::sqrt(static_cast<double>(width)) * 5;
    ASSERT_NEAR(losses[static_cast<size_t>(row)], loss_of(wide, row), 2 * Rounding<T>() * logit + 1e-4);
    const int64_t column = random() % width;
    const auto at = static_cast<size_t>(row * width + column);
    const double slope =
        Slope(wide, at, [&](const std::vector<double>& hidden) { return loss_of(hidden, row); });
    ASSERT_NEAR(ToFloat(dx.held[at]), slope, 2 * Rounding<T>() * logit * 3 + 1e-4) << row;
  }
}

TYPED_TEST(LossTest, WhatIsNoNumberIsSeen) {
  using T = TypeParam;
  Values<T> logits(2, 40);
  FromFloat(std::numeric_limits<float>::quiet_NaN(), &logits.held[17]);
  std::vector<float> losses(2);
  CrossEntropy(logits.matrix, std::vector<int32_t>{0, 1}, 1, losses);
  EXPECT_TRUE(std::isnan(losses[0]));
  EXPECT_NEAR(losses[1], std::log(40.0), 1e-5);
}

}  // namespace
}  // namespace headrace::nn
