#include "nn/rows.h"

#include <gtest/gtest.h>

#include "nn/kernels.h"
#include "nn/nn_testing.h"
#include "nn/threads.h"

namespace headrace::nn {
namespace {

template <typename T>
class RowsTest : public ::testing::Test {};
using Types = ::testing::Types<float, BF16>;
TYPED_TEST_SUITE(RowsTest, Types);

TEST(ExpTest, IsWithinTwoUnitsAndHasNoHoles) {
  double worst = 0;
  for (float x = -87.2F; x < 88.2F; x += 0.00037F) {
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(Exp(x) - exact) / exact);
  }
  EXPECT_LE(worst, 2 * std::ldexp(1.0, -23));
  EXPECT_EQ(Exp(0), 1.0F);
  EXPECT_EQ(Exp(-1000), 0.0F);
  EXPECT_EQ(Exp(-std::numeric_limits<float>::infinity()), 0.0F);
  EXPECT_TRUE(std::isfinite(Exp(1000)));
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
}

std::vector<double> NormReference(const std::vector<double>& x, const std::vector<float>& weight,
                                  double epsilon) {
  std::vector<double> y(x.size());
  const size_t columns = weight.size();
  for (size_t row = 0; row < x.size(); row += columns) {
    double squares = 0;
    for (size_t i = 0; i < columns; ++i) squares += x[row + i] * x[row + i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(columns) + epsilon);
    for (size_t i = 0; i < columns; ++i) y[row + i] = x[row + i] * inverse * weight[i];
  }
  return y;
}

double Dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TYPED_TEST(RowsTest, RmsNormAndItsGradients) {
  using T = TypeParam;
  std::mt19937 random(4);
  for (const int64_t columns : {1, 15, 16, 100, 576}) {
    const int64_t rows = 130;
    Values<T> x(rows, columns);
    Values<T> y(rows, columns);
    Values<T> dy(rows, columns);
    Values<T> dx(rows, columns);
    Randomize(&random, &x);
    Randomize(&random, &dy);
    std::vector<float> weight(static_cast<size_t>(columns));
    for (float& value : weight) value = 0.5F + static_cast<float>(random() % 1000) / 1000;
    std::vector<float> inverse(static_cast<size_t>(rows));
    std::vector<float> dw(weight.size(), 1.0F);  // what is there already stays
    RmsNorm(x.matrix, weight, 1e-5F, y.matrix, inverse);
    RmsNormBackward(dy.matrix, x.matrix, weight, inverse, dx.matrix, Into::kAdd, dw);

    const std::vector<double> wide = x.Wide();
    const std::vector<double> told = dy.Wide();
    const std::vector<double> expected = NormReference(wide, weight, 1e-5);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(ToFloat(y.held[i]), expected[i],
                  (Rounding<T>() + 32 * Rounding<float>()) * (std::abs(expected[i]) + 1e-3));
    for (int sample = 0; sample < 40; ++sample) {
      const size_t i = random() % wide.size();
      const double slope = Slope(
          wide, i, [&](const std::vector<double>& at) { return Dot(told, NormReference(at, weight, 1e-5)); });
      // With one column and no epsilon the slope would be 0: terms of the size of dy · inverse cancel.
      const double size = std::abs(slope) + 4.0 * inverse[i / static_cast<size_t>(columns)];
      ASSERT_NEAR(ToFloat(dx.held[i]), slope,
                  (Rounding<T>() * std::abs(slope)) + 64 * Rounding<float>() * size + 1e-7);
    }
    for (size_t column = 0; column < weight.size(); ++column) {
      double sum = 1;
      double magnitude = 1;
      for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
        const double part =
            told[row * weight.size() + column] * wide[row * weight.size() + column] * inverse[row];
        sum += part;
        magnitude += std::abs(part);
      }
      ASSERT_NEAR(dw[column], sum, static_cast<double>(rows + 8) * Rounding<float>() * magnitude);
    }
  }
}

TYPED_TEST(RowsTest, HeadsOfARowAreNormedByThemselves) {
  using T = TypeParam;
  std::mt19937 random(11);
  for (const int64_t size : {6, 16, 40}) {
    const int64_t heads = 3;
    Values<T> x(70, heads * size);
    Values<T> y(70, heads * size);
    Values<T> dy(70, heads * size);
    Randomize(&random, &x);
    Randomize(&random, &dy);
    std::vector<float> weight(static_cast<size_t>(size));
    for (float& value : weight) value = 0.5F + static_cast<float>(random() % 1000) / 1000;
    std::vector<float> inverse(static_cast<size_t>(70 * heads));
    RmsNorm(x.matrix, weight, 1e-6F, y.matrix, inverse);
    // The same heads, each in a row of its own.
    Values<T> again(70 * heads, size);
    std::vector<float> inverse_again(inverse.size());
    RmsNorm(Matrix::Of(x.held.data(), 70 * heads, size), weight, 1e-6F, again.matrix, inverse_again);
    EXPECT_EQ(std::memcmp(y.held.data(), again.held.data(), y.held.size() * sizeof(T)), 0);
    EXPECT_EQ(inverse, inverse_again);

    Values<T> dx(70 * heads, size);
    std::vector<float> dw(weight.size());
    std::vector<float> dw_again(weight.size());
    RmsNormBackward(Matrix::Of(dy.held.data(), 70 * heads, size), Matrix::Of(x.held.data(), 70 * heads, size),
                    weight, inverse, dx.matrix, Into::kReplace, dw_again);
    RmsNormBackward(dy.matrix, x.matrix, weight, inverse, dy.matrix, Into::kReplace, dw);  // in place
    EXPECT_EQ(std::memcmp(dy.held.data(), dx.held.data(), dx.held.size() * sizeof(T)), 0);
    for (size_t i = 0; i < dw.size(); ++i) EXPECT_NEAR(dw[i], dw_again[i], 1e-4);
  }
}

TYPED_TEST(RowsTest, AGradientReplacesOrIsAdded) {
  using T = TypeParam;
  std::mt19937 random(12);
  Values<T> x(9, 50);
  Values<T> y(9, 50);
  Values<T> dy(9, 50);
  Values<T> replaced(9, 50);
  Values<T> added(9, 50);
  for (Values<T>* values : {&x, &dy, &replaced}) Randomize(&random, values);  // what is there does not count
  const std::vector<float> weight(50, 1.25F);
  std::vector<float> inverse(9);
  RmsNorm(x.matrix, weight, 1e-6F, y.matrix, inverse);
  RmsNormBackward(dy.matrix, x.matrix, weight, inverse, replaced.matrix, Into::kReplace, {});
  RmsNormBackward(dy.matrix, x.matrix, weight, inverse, added.matrix, Into::kAdd, {});
  EXPECT_EQ(replaced.Wide(), added.Wide());  // to zeros
  RmsNormBackward(dy.matrix, x.matrix, weight, inverse, added.matrix, Into::kAdd, {});
  for (size_t i = 0; i < added.held.size(); ++i)
    EXPECT_NEAR(ToFloat(added.held[i]), 2 * ToFloat(replaced.held[i]),
                4 * Rounding<T>() * std::abs(ToFloat(replaced.held[i])));
}

TYPED_TEST(RowsTest, BiasesAndScales) {
  using T = TypeParam;
  std::mt19937 random(13);
  Values<T> x(40, 37);
  Randomize(&random, &x);
  const std::vector<double> before = x.Wide();
  std::vector<float> bias(37);
  for (float& value : bias) value = static_cast<float>(random() % 1000) / 100 - 5;
  AddBias(bias, x.matrix);
  for (size_t i = 0; i < before.size(); ++i) {
    const double sum = before[i] + bias[i % 37];
    ASSERT_NEAR(ToFloat(x.held[i]), sum, 1.01 * Rounding<T>() * std::abs(sum) + 1e-9);
  }
  // The factor is a number of the type before anything is multiplied by it.
  Values<T> ones(2, 3);
  for (T& value : ones.held) FromFloat(1.0F, &value);
  const float root = std::sqrt(3072.0F);
  Scale(root, ones.matrix);
  for (const T& value : ones.held) EXPECT_EQ(ToFloat(value), DTypeOf<T>() == DType::kF32 ? root : 55.5F);
  Values<T> nines(2, 3);
  for (T& value : nines.held) FromFloat(9.0F, &value);
  Scale(root, nines.matrix);  // of 498, 500, …: 55.5 · 9 = 499.5 is nearer to 500, 55.43 · 9 = 498.8 to 498
  for (const T& value : nines.held)
    EXPECT_EQ(ToFloat(value), DTypeOf<T>() == DType::kF32 ? 9 * root : 500.0F);
}

TYPED_TEST(RowsTest, RopeTurnsAndTurnsBack) {
  using T = TypeParam;
  std::mt19937 random(5);
  const int64_t size = 32;
  std::vector<float> table(2 * 50 * 16);
  const RopeTable rope = FillRope(50, size, 10000, {}, table);
  for (const RopePairs pairs : {RopePairs::kAdjacent, RopePairs::kHalves}) {
    Values<T> x(20, 3 * size);
    Randomize(&random, &x);
    const std::vector<double> before = x.Wide();
    std::vector<int32_t> positions(20);
    for (int32_t& position : positions) position = static_cast<int32_t>(random() % 50);
    Rope(x.matrix, positions, rope, pairs, Turn::kForward);
    for (int64_t row = 0; row < 20; ++row) {
      for (int64_t head = 0; head < 3; ++head) {
        for (int64_t i = 0; i < 16; ++i) {
          const double angle =
              positions[static_cast<size_t>(row)] * std::pow(10000.0, -2.0 * static_cast<double>(i) / 32);
          const int64_t first = head * size + (pairs == RopePairs::kAdjacent ? 2 * i : i);
          const int64_t second = first + (pairs == RopePairs::kAdjacent ? 1 : 16);
          const double a = before[static_cast<size_t>(row * 96 + first)];
          const double b = before[static_cast<size_t>(row * 96 + second)];
          const double bound = (Rounding<T>() + 4 * Rounding<float>()) * (std::abs(a) + std::abs(b));
          ASSERT_NEAR(x.At(row, first), a * std::cos(angle) - b * std::sin(angle), bound);
          ASSERT_NEAR(x.At(row, second), a * std::sin(angle) + b * std::cos(angle), bound);
        }
      }
    }
    Rope(x.matrix, positions, rope, pairs, Turn::kBack);
    for (size_t i = 0; i < before.size(); ++i)
      ASSERT_NEAR(ToFloat(x.held[i]), before[i], 4 * (Rounding<T>() + 4 * Rounding<float>()) * 4);
  }
}

TEST(RopeTest, FactorsDivideFrequencies) {
  std::vector<float> table(2 * 8 * 2);
  const std::vector<float> factors = {1.0F, 8.0F};
  const RopeTable rope = FillRope(8, 4, 500000, factors, table);
  EXPECT_FLOAT_EQ(rope.sines[7 * 2], std::sin(7.0F));
  EXPECT_FLOAT_EQ(rope.sines[7 * 2 + 1], static_cast<float>(std::sin(7.0 / std::sqrt(500000.0) / 8.0)));
}

TEST(RopeTest, OneFactorForAllDividesPositions) {
  std::vector<float> table(2 * 80 * 2);
  std::vector<float> scaled(2 * 80 * 2);
  const std::vector<float> factors = {8, 8};
  const RopeTable rope = FillRope(80, 4, 1000000, {}, table);
  const RopeTable slower = FillRope(80, 4, 1000000, factors, scaled);
  for (size_t position = 0; position < 10; ++position) {
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_FLOAT_EQ(slower.cosines[8 * position * 2 + i], rope.cosines[position * 2 + i]);
      EXPECT_FLOAT_EQ(slower.sines[8 * position * 2 + i], rope.sines[position * 2 + i]);
    }
  }
}

double ActReference(Gate act, double z) {
  if (act == Gate::kSilu) return z / (1 + std::exp(-z));
  return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
}

TYPED_TEST(RowsTest, GatesAndTheirGradients) {
  using T = TypeParam;
  std::mt19937 random(6);
  for (const Gate act : {Gate::kSilu, Gate::kGelu}) {
    Values<T> gate(33, 77);
    Values<T> up(33, 77);
    Values<T> y(33, 77);
    Values<T> dy(33, 77);
    Randomize(&random, &gate);
    Randomize(&random, &up);
    Randomize(&random, &dy);
    const std::vector<double> z = gate.Wide();
    const std::vector<double> u = up.Wide();
    Gated(gate.matrix, up.matrix, act, y.matrix);
    GatedBackward(dy.matrix, act, gate.matrix, up.matrix);
    for (size_t i = 0; i < z.size(); ++i) {
      const double d = ToFloat(dy.held[i]);
      const double value = ActReference(act, z[i]);
      const double slope = (ActReference(act, z[i] + 1e-5) - ActReference(act, z[i] - 1e-5)) / 2e-5;
      const auto bound = [](double size, double result) {
        return Rounding<T>() * std::abs(result) + 32 * Rounding<float>() * size + 1e-9;
      };
      ASSERT_NEAR(ToFloat(y.held[i]), value * u[i],
                  bound((1 + std::abs(z[i])) * std::abs(u[i]), value * u[i]));
      ASSERT_NEAR(ToFloat(gate.held[i]), d * u[i] * slope,
                  bound((1 + z[i] * z[i]) * std::abs(d * u[i]), d * u[i] * slope));
      ASSERT_NEAR(ToFloat(up.held[i]), d * value, bound((1 + std::abs(z[i])) * std::abs(d), d * value));
    }
  }
}

// Where gelu is almost 0, its digits are its own: 1 + tanh would have lost them.
TEST(GateTest, GelusTailKeepsItsDigits) {
  Values<float> gate(1, 64);
  Values<float> up(1, 64);
  Values<float> y(1, 64);
  for (size_t i = 0; i < 64; ++i) {
    gate.held[i] = -4.5F * static_cast<float>(i + 1) / 64;
    up.held[i] = 1;
  }
  Gated(gate.matrix, up.matrix, Gate::kGelu, y.matrix);
  for (size_t i = 0; i < 64; ++i) {
    const double expected = ActReference(Gate::kGelu, gate.held[i]);
    EXPECT_NEAR(y.held[i], expected, -1e-5 * expected) << gate.held[i];
  }
}

TYPED_TEST(RowsTest, BitsDoNotDependOnThreads) {
  using T = TypeParam;
  std::mt19937 random(7);
  Values<T> x(500, 64);
  Values<T> dy(500, 64);
  Randomize(&random, &x);
  Randomize(&random, &dy);
  const std::vector<float> weight(64, 1.5F);
  std::vector<float> inverse(500);
  Values<T> y(500, 64);
  RmsNorm(x.matrix, weight, 1e-6F, y.matrix, inverse);
  std::vector<std::vector<float>> found;
  const int threads = ThreadsInUse();
  for (const int count : {1, 2, 3}) {
    UseThreads(count);
    Values<T> dx(500, 64);
    found.emplace_back(64, 0.0F);
    RmsNormBackward(dy.matrix, x.matrix, weight, inverse, dx.matrix, Into::kAdd, found.back());
  }
  UseThreads(threads);
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[0], found[2]);
}

}  // namespace
}  // namespace headrace::nn
