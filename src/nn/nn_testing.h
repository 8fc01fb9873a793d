// nn_testing: random matrices for the trainer's tests, and slow references in float64.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "nn/tensor.h"

namespace headrace::nn {

// Values with their matrix.
template <typename T>
struct Values {
  std::vector<T> held;
  Matrix matrix;

  Values(int64_t rows, int64_t columns)
      : held(static_cast<size_t>(rows * columns)), matrix(Matrix::Of(held.data(), rows, columns)) {}
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;
  double At(int64_t row, int64_t column) const {
    return ToFloat(held[static_cast<size_t>(row * matrix.columns + column)]);
  }
  std::vector<double> Wide() const {
    std::vector<double> wide;
    for (const T& value : held) wide.push_back(ToFloat(value));
    return wide;
  }
};

template <typename T>
void Randomize(std::mt19937* random, Values<T>* values) {
  std::normal_distribution<float> normal;
  for (T& value : values->held) FromFloat(normal(*random), &value);
}

// Half the distance between neighbours at 1.
template <typename T>
constexpr double Rounding() {
  return DTypeOf<T>() == DType::kF32 ? std::ldexp(1.0, -24) : std::ldexp(1.0, -8);
}

// The number of bfloat16 that is nearest.
inline float Narrowed(float value) {
  BF16 narrow;
  FromFloat(value, &narrow);
  return ToFloat(narrow);
}

// Numbers that are the same wherever they are drawn, in Python too. (Steele et al. 2014, SplitMix64.)
class Draws {
 public:
  explicit Draws(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    state_ += 0x9E3779B97F4A7C15;
    uint64_t z = state_;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }
  int64_t Below(int64_t count) { return static_cast<int64_t>(Next() % static_cast<uint64_t>(count)); }
  // Of -reach to reach.
  float Around(float reach) {
    return (static_cast<float>(Next() >> 40) * std::ldexp(1.0F, -23) - 1.0F) * reach;
  }

 private:
  uint64_t state_;
};

// The derivative of `loss` by x[i], by central differences in float64.
template <typename F>
double Slope(std::vector<double> x, size_t i, F&& loss) {
  const double step = 1e-5;
  const double at = x[i];
  x[i] = at + step;
  const double above = loss(x);
  x[i] = at - step;
  return (above - loss(x)) / (2 * step);
}

}  // namespace headrace::nn
