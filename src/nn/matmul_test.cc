#include "nn/matmul.h"

#include <gtest/gtest.h>

#include "nn/nn_testing.h"
#include "nn/threads.h"

namespace headrace::nn {
namespace {

template <typename T>
class MatmulTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!OneDnnMatmul()->Supports(DTypeOf<T>())) GTEST_SKIP() << "this processor has no such products";
  }
};
using Types = ::testing::Types<float, BF16>;
TYPED_TEST_SUITE(MatmulTest, Types);

// The sum of the magnitudes of what a sum adds: rounding is measured against it.
struct Sum {
  double value = 0;
  double magnitude = 0;
};
template <typename T>
Sum SumAt(const Values<T>& a, Transpose ta, const Values<T>& b, Transpose tb, int64_t k, int64_t row,
          int64_t column) {
  Sum sum;
  for (int64_t i = 0; i < k; ++i) {
    const double left = ta == Transpose::kYes ? a.At(i, row) : a.At(row, i);
    const double right = tb == Transpose::kYes ? b.At(column, i) : b.At(i, column);
    sum.value += left * right;
    sum.magnitude += std::abs(left * right);
  }
  return sum;
}

TYPED_TEST(MatmulTest, IsTheProductForAllShapesAndTurns) {
  using T = TypeParam;
  const auto matmul = OneDnnMatmul();
  std::mt19937 random(1);
  for (int trial = 0; trial < 64; ++trial) {
    const bool large = trial % 16 == 0;  // several pieces each way
    const int64_t m = 1 + random() % (large ? 600 : 70);
    const int64_t k = 1 + random() % (large ? 40 : 200);
    const int64_t n = 1 + random() % (large ? 1800 : 90);
    const Transpose ta = random() % 2 == 0 ? Transpose::kNo : Transpose::kYes;
    const Transpose tb = random() % 2 == 0 ? Transpose::kNo : Transpose::kYes;
    const Into into = random() % 2 == 0 ? Into::kReplace : Into::kAdd;
    Values<T> a(ta == Transpose::kYes ? k : m, ta == Transpose::kYes ? m : k);
    Values<T> b(tb == Transpose::kYes ? n : k, tb == Transpose::kYes ? k : n);
    Values<float> out(m, n);
    Randomize(&random, &a);
    Randomize(&random, &b);
    Randomize(&random, &out);
    const std::vector<double> before = out.Wide();
    Values<float> packed_out(m, n);
    packed_out.held = out.held;
    matmul->Multiply(a.matrix, ta, b.matrix, tb, out.matrix, into);
    const auto packed = matmul->Pack(b.matrix, tb);
    EXPECT_EQ(packed->rows(), k);
    EXPECT_EQ(packed->columns(), n);
    if (ta == Transpose::kNo) matmul->Multiply(a.matrix, *packed, packed_out.matrix, into);
    for (int64_t row = 0; row < m; ++row) {
      for (int64_t column = 0; column < n; ++column) {
        const Sum sum = SumAt(a, ta, b, tb, k, row, column);
        const double old = into == Into::kAdd ? before[static_cast<size_t>(row * n + column)] : 0;
        // Products of two bfloat16 are exact in float32; k additions round.
        const double bound = static_cast<double>(k + 2) * Rounding<float>() * (sum.magnitude + std::abs(old));
        ASSERT_NEAR(out.At(row, column), old + sum.value, bound) << m << " " << k << " " << n;
        if (ta == Transpose::kNo) {
          ASSERT_NEAR(packed_out.At(row, column), old + sum.value, bound);
        }
      }
    }
  }
}

TYPED_TEST(MatmulTest, TakesPartsOfWiderMatrices) {
  using T = TypeParam;
  const auto matmul = OneDnnMatmul();
  std::mt19937 random(2);
  Values<T> wide(40, 96);
  Values<T> b(32, 16);
  Values<float> out(40, 50);
  Randomize(&random, &wide);
  Randomize(&random, &b);
  matmul->Multiply(wide.matrix.Part(3, 32, 30, 32), Transpose::kNo, b.matrix, Transpose::kNo,
                   out.matrix.Part(5, 20, 30, 16), Into::kReplace);
  for (int64_t row = 0; row < 40; ++row) {
    for (int64_t column = 0; column < 50; ++column) {
      double sum = 0;
      double magnitude = 0;
      if (row >= 5 && row < 35 && column >= 20 && column < 36) {
        for (int64_t i = 0; i < 32; ++i) {
          const double product = wide.At(row - 2, 32 + i) * b.At(i, column - 20);
          sum += product;
          magnitude += std::abs(product);
        }
      }
      ASSERT_NEAR(out.At(row, column), sum, 34 * Rounding<float>() * magnitude) << row << " " << column;
    }
  }
}

// Of frozen weights; of the sums over all tokens of a batch, which are long where their results are small;
// and of a few rows.
TYPED_TEST(MatmulTest, BitsDoNotDependOnThreads) {
  using T = TypeParam;
  const auto matmul = OneDnnMatmul();
  std::mt19937 random(3);
  const int threads = ThreadsInUse();
  struct Shape {
    int64_t m, k, n;
  };
  for (const Shape& shape : {Shape{300, 576, 192}, Shape{16, 4096, 576}, Shape{576, 4096, 16},
                             Shape{1, 900, 2000}, Shape{700, 16, 1600}, Shape{8, 20000, 8}}) {
    for (const Transpose ta : {Transpose::kNo, Transpose::kYes}) {
      const bool turned = ta == Transpose::kYes;
      Values<T> a(turned ? shape.k : shape.m, turned ? shape.m : shape.k);
      Values<T> b(shape.k, shape.n);
      Randomize(&random, &a);
      Randomize(&random, &b);
      const auto packed = matmul->Pack(b.matrix, Transpose::kNo);
      std::vector<std::vector<float>> found;
      for (const int count : {1, 2, 3, 7, 16}) {
        UseThreads(count);
        Values<float> plain(shape.m, shape.n);
        Values<float> fast(shape.m, shape.n);
        matmul->Multiply(a.matrix, ta, b.matrix, Transpose::kNo, plain.matrix, Into::kReplace);
        if (!turned) matmul->Multiply(a.matrix, *packed, fast.matrix, Into::kReplace);
        EXPECT_EQ(ThreadsInUse(), count);
        found.push_back(plain.held);
        found.back().insert(found.back().end(), fast.held.begin(), fast.held.end());
        EXPECT_TRUE(found.back() == found.front())
            << shape.m << " x " << shape.k << " x " << shape.n << ", " << count;
      }
    }
  }
  UseThreads(threads);
}

TEST(BF16Test, RoundsToTheNearestAndKeepsWhatIsNoNumber) {
  const auto rounded = [](float value) {
    BF16 out;
    FromFloat(value, &out);
    return ToFloat(out);
  };
  EXPECT_EQ(rounded(1.0F), 1.0F);
  EXPECT_EQ(rounded(1.00390625F), 1.0F);         // a tie: to even
  EXPECT_EQ(rounded(1.01171875F), 1.015625F);    // a tie, the other way
  EXPECT_EQ(rounded(-1.0039064F), -1.0078125F);  // above the tie
  EXPECT_EQ(rounded(3.4e38F), std::numeric_limits<float>::infinity());
  EXPECT_EQ(rounded(-std::numeric_limits<float>::infinity()), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_TRUE(std::isnan(rounded(std::bit_cast<float>(0x7F800001U))));  // its upper half is that of infinity
}

}  // namespace
}  // namespace headrace::nn
