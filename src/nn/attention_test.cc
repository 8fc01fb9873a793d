#include "nn/attention.h"

#include <gtest/gtest.h>

#include "nn/nn_testing.h"
#include "nn/threads.h"

namespace headrace::nn {
namespace {

template <typename T>
class AttentionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!OneDnnMatmul()->Supports(DTypeOf<T>())) GTEST_SKIP() << "this processor has no such products";
  }
};
using Types = ::testing::Types<float, BF16>;
TYPED_TEST_SUITE(AttentionTest, Types);

// Documents of a batch, and the shapes of its attention.
struct Case {
  AttentionShape shape;
  std::vector<int64_t> starts;
  int64_t rows() const { return starts.back(); }
};

// out (rows, heads · size), one number after the other.
std::vector<double> Reference(const Case& test, const std::vector<double>& q, const std::vector<double>& k,
                              const std::vector<double>& v) {
  const AttentionShape& shape = test.shape;
  const int64_t group = shape.heads / shape.key_heads;
  std::vector<double> out(q.size());
  const auto at = [&](int64_t row, int64_t heads, int64_t head, int64_t i) {
    return static_cast<size_t>((row * heads + head) * shape.head_size + i);
  };
  for (size_t document = 0; document + 1 < test.starts.size(); ++document) {
    for (int64_t row = test.starts[document]; row < test.starts[document + 1]; ++row) {
      const int64_t first =
          shape.window == 0 ? test.starts[document] : std::max(test.starts[document], row - shape.window + 1);
      for (int64_t head = 0; head < shape.heads; ++head) {
        std::vector<double> weights;
        double sum = 0;
        for (int64_t key = first; key <= row; ++key) {
          double dot = 0;
          for (int64_t i = 0; i < shape.head_size; ++i)
            dot += q[at(row, shape.heads, head, i)] * k[at(key, shape.key_heads, head / group, i)];
          weights.push_back(std::exp(dot * shape.scale));
          sum += weights.back();
        }
        for (int64_t key = first; key <= row; ++key)
          for (int64_t i = 0; i < shape.head_size; ++i)
            out[at(row, shape.heads, head, i)] += weights[static_cast<size_t>(key - first)] / sum *
                                                  v[at(key, shape.key_heads, head / group, i)];
      }
    }
  }
  return out;
}

template <typename T>
struct Run {
  explicit Run(const Case& test)
      : q(test.rows(), test.shape.heads * test.shape.head_size),
        k(test.rows(), test.shape.key_heads * test.shape.head_size),
        v(k.matrix.rows, k.matrix.columns),
        out(q.matrix.rows, q.matrix.columns),
        dout(q.matrix.rows, q.matrix.columns),
        dq(q.matrix.rows, q.matrix.columns),
        dk(k.matrix.rows, k.matrix.columns),
        dv(k.matrix.rows, k.matrix.columns),
        log_sums(static_cast<size_t>(test.rows() * test.shape.heads)) {}
  void Fill(std::mt19937* random) {
    for (Values<T>* values : {&q, &k, &v, &dout}) Randomize(random, values);
  }
  void Compute(const Case& test) {
    const auto matmul = OneDnnMatmul();
    Attention(matmul.get(), test.shape, test.starts, q.matrix, k.matrix, v.matrix, out.matrix, log_sums);
    AttentionBackward(matmul.get(), test.shape, test.starts, q.matrix, k.matrix, v.matrix, out.matrix,
                      log_sums, dout.matrix, dq.matrix, dk.matrix, dv.matrix);
  }
  Values<T> q, k, v, out, dout, dq, dk, dv;
  std::vector<float> log_sums;
};

std::vector<Case> Cases() {
  return {
      {{.heads = 3, .key_heads = 1, .head_size = 16, .scale = 0.25F}, {0, 1, 3, 40}},
      {{.heads = 2, .key_heads = 2, .head_size = 8, .scale = 0.35F},
       {0, 127, 255, 384}},  // 127, 128 and 129 rows
      {{.heads = 4, .key_heads = 2, .head_size = 32, .scale = 0.18F}, {0, 300}},
      {{.heads = 2, .key_heads = 1, .head_size = 16, .scale = 0.25F, .window = 1}, {0, 20}},
      {{.heads = 2, .key_heads = 1, .head_size = 16, .scale = 0.25F, .window = 100}, {0, 290, 310}},
      {{.heads = 1, .key_heads = 1, .head_size = 16, .scale = 0.25F, .window = 128},
       {0, 0, 390, 390}},  // empty ones too
  };
}

TYPED_TEST(AttentionTest, IsTheReferencesAndSoAreItsGradients) {
  using T = TypeParam;
  std::mt19937 random(8);
  for (const Case& test : Cases()) {
    Run<T> run(test);
    run.Fill(&random);
    run.Compute(test);
    const std::vector<double> q = run.q.Wide();
    const std::vector<double> k = run.k.Wide();
    const std::vector<double> v = run.v.Wide();
    const std::vector<double> told = run.dout.Wide();
    const std::vector<double> expected = Reference(test, q, k, v);
    // Probabilities and results are rounded to T: values are averages of numbers of about 1.
    const double bound = 6 * Rounding<T>() + 1e-5;
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(ToFloat(run.out.held[i]), expected[i], bound) << i;
    const auto loss = [&](const std::vector<double>& a, const std::vector<double>& b,
                          const std::vector<double>& c) {
      const std::vector<double> out = Reference(test, a, b, c);
      double sum = 0;
      for (size_t i = 0; i < out.size(); ++i) sum += out[i] * told[i];
      return sum;
    };
    // A gradient is a sum over rows; delta is made of results that were rounded to T.
    const auto near = [&](double found, double slope) {
      const double wide =
          Rounding<T>() * 12 * (1 + std::abs(slope)) * std::sqrt(static_cast<double>(test.shape.head_size));
      ASSERT_NEAR(found, slope, wide + 1e-4);
    };
    for (int sample = 0; sample < 12; ++sample) {
      const size_t i = random() % q.size();
      near(ToFloat(run.dq.held[i]),
           Slope(q, i, [&](const std::vector<double>& at) { return loss(at, k, v); }));
      const size_t j = random() % k.size();
      near(ToFloat(run.dk.held[j]),
           Slope(k, j, [&](const std::vector<double>& at) { return loss(q, at, v); }));
      near(ToFloat(run.dv.held[j]),
           Slope(v, j, [&](const std::vector<double>& at) { return loss(q, k, at); }));
    }
  }
}

TYPED_TEST(AttentionTest, DocumentsDoNotMeet) {
  using T = TypeParam;
  const Case test = {{.heads = 2, .key_heads = 1, .head_size = 16, .scale = 0.25F}, {0, 50, 200, 210}};
  std::mt19937 random(9);
  Run<T> run(test);
  run.Fill(&random);
  run.Compute(test);
  Run<T> changed(test);
  for (const auto& [to, from] : {std::pair(&changed.q, &run.q), std::pair(&changed.k, &run.k),
                                 std::pair(&changed.v, &run.v), std::pair(&changed.dout, &run.dout)})
    to->held = from->held;
  for (Values<T>* values : {&changed.q, &changed.k, &changed.v, &changed.dout})
    for (int64_t row = 50; row < 200; ++row)
      for (int64_t i = 0; i < values->matrix.columns; ++i)
        FromFloat(7.0F, values->matrix.template Row<T>(row) + i);
  changed.Compute(test);
  for (const auto& [a, b] : {std::pair(&run.out, &changed.out), std::pair(&run.dq, &changed.dq),
                             std::pair(&run.dk, &changed.dk), std::pair(&run.dv, &changed.dv)}) {
    for (int64_t row = 0; row < 210; ++row) {
      const size_t width = static_cast<size_t>(a->matrix.columns);
      const bool same = std::memcmp(&a->held[static_cast<size_t>(row) * width],
                                    &b->held[static_cast<size_t>(row) * width], width * sizeof(T)) == 0;
      if (row < 50 || row >= 200) {
        EXPECT_TRUE(same) << row;
      } else if (a == &run.out) {
        EXPECT_FALSE(same) << row;
      }
    }
  }
}

TYPED_TEST(AttentionTest, BitsDoNotDependOnThreads) {
  using T = TypeParam;
  const Case test = {{.heads = 4, .key_heads = 2, .head_size = 16, .scale = 0.25F}, {0, 150, 160, 400}};
  std::mt19937 random(10);
  Run<T> one(test);
  one.Fill(&random);
  Run<T> two(test);
  for (const auto& [to, from] : {std::pair(&two.q, &one.q), std::pair(&two.k, &one.k),
                                 std::pair(&two.v, &one.v), std::pair(&two.dout, &one.dout)})
    to->held = from->held;
  const int threads = ThreadsInUse();
  UseThreads(1);
  one.Compute(test);
  UseThreads(2);
  two.Compute(test);
  UseThreads(threads);
  for (const auto& [a, b] : {std::pair(&one.out, &two.out), std::pair(&one.dq, &two.dq),
                             std::pair(&one.dk, &two.dk), std::pair(&one.dv, &two.dv)})
    EXPECT_EQ(std::memcmp(a->held.data(), b->held.data(), a->held.size() * sizeof(T)), 0);
}

}  // namespace
}  // namespace headrace::nn
