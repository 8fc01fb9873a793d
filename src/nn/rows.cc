#include "nn/rows.h"

#include <cmath>
#include <vector>

#include "nn/kernels.h"

namespace headrace::nn {
namespace {

// Calls `function` with a value of the matrices' element type.
template <typename F>
void WithType(DType type, F&& function) {
  if (type == DType::kF32) {
    function(float());
  } else {
    function(BF16());
  }
}

bool SameShape(const Matrix& a, const Matrix& b) {
  return a.type == b.type && a.rows == b.rows && a.columns == b.columns;
}

template <typename T>
inline __attribute__((always_inline)) float NormRow(const T* x, const float* weight, int64_t columns,
                                                    float epsilon, T* y) {
  float squares[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= columns; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      squares[lane] += ToFloat(x[i + lane]) * ToFloat(x[i + lane]);
  for (; i < columns; ++i) squares[i % kLanes] += ToFloat(x[i]) * ToFloat(x[i]);
  const float inverse = 1.0F / std::sqrt(SumOf(squares) / static_cast<float>(columns) + epsilon);
  for (int64_t j = 0; j < columns; ++j) FromFloat(ToFloat(x[j]) * inverse * weight[j], &y[j]);
  return inverse;
}
HEADRACE_KERNEL float NormRowF32(const float* x, const float* weight, int64_t columns, float epsilon,
                                 float* y) {
  return NormRow(x, weight, columns, epsilon, y);
}
HEADRACE_KERNEL float NormRowBF16(const BF16* x, const float* weight, int64_t columns, float epsilon,
                                  BF16* y) {
  return NormRow(x, weight, columns, epsilon, y);
}
float NormRowOf(const float* x, const float* w, int64_t n, float e, float* y) {
  return NormRowF32(x, w, n, e, y);
}
float NormRowOf(const BF16* x, const float* w, int64_t n, float e, BF16* y) {
  return NormRowBF16(x, w, n, e, y);
}

// With g = dy · weight: dx = or += inverse · (g - x · inverse² · mean(g · x)).
template <Into kInto, typename T>
inline __attribute__((always_inline)) void NormRowBack(const T* dy, const T* x, const float* weight,
                                                       float inverse, int64_t columns, T* dx,
                                                       float* weight_gradient) {
  float dots[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= columns; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      dots[lane] += ToFloat(dy[i + lane]) * weight[i + lane] * ToFloat(x[i + lane]);
  for (; i < columns; ++i) dots[i % kLanes] += ToFloat(dy[i]) * weight[i] * ToFloat(x[i]);
  const float pull = inverse * inverse * SumOf(dots) / static_cast<float>(columns);
  if (weight_gradient != nullptr)  // before dx, which may take dy's place
    for (int64_t j = 0; j < columns; ++j) weight_gradient[j] += ToFloat(dy[j]) * ToFloat(x[j]) * inverse;
  for (int64_t j = 0; j < columns; ++j) {
    const float gradient = inverse * (ToFloat(dy[j]) * weight[j] - ToFloat(x[j]) * pull);
    FromFloat(kInto == Into::kAdd ? ToFloat(dx[j]) + gradient : gradient, &dx[j]);
  }
}
HEADRACE_KERNEL void NormRowBackF32(const float* dy, const float* x, const float* weight, float inverse,
                                    int64_t columns, Into into, float* dx, float* dw) {
  into == Into::kAdd ? NormRowBack<Into::kAdd>(dy, x, weight, inverse, columns, dx, dw)
                     : NormRowBack<Into::kReplace>(dy, x, weight, inverse, columns, dx, dw);
}
HEADRACE_KERNEL void NormRowBackBF16(const BF16* dy, const BF16* x, const float* weight, float inverse,
                                     int64_t columns, Into into, BF16* dx, float* dw) {
  into == Into::kAdd ? NormRowBack<Into::kAdd>(dy, x, weight, inverse, columns, dx, dw)
                     : NormRowBack<Into::kReplace>(dy, x, weight, inverse, columns, dx, dw);
}
void NormRowBackOf(const float* dy, const float* x, const float* w, float i, int64_t n, Into into, float* dx,
                   float* dw) {
  NormRowBackF32(dy, x, w, i, n, into, dx, dw);
}
void NormRowBackOf(const BF16* dy, const BF16* x, const float* w, float i, int64_t n, Into into, BF16* dx,
                   float* dw) {
  NormRowBackBF16(dy, x, w, i, n, into, dx, dw);
}

template <typename T>
inline __attribute__((always_inline)) void BiasRow(const float* bias, int64_t columns, T* to) {
  for (int64_t i = 0; i < columns; ++i) FromFloat(ToFloat(to[i]) + bias[i], &to[i]);
}
HEADRACE_KERNEL void BiasRowF32(const float* bias, int64_t columns, float* to) { BiasRow(bias, columns, to); }
HEADRACE_KERNEL void BiasRowBF16(const float* bias, int64_t columns, BF16* to) { BiasRow(bias, columns, to); }
void BiasRowOf(const float* bias, int64_t n, float* to) { BiasRowF32(bias, n, to); }
void BiasRowOf(const float* bias, int64_t n, BF16* to) { BiasRowBF16(bias, n, to); }

// sqrt(2 / pi) and the cube's factor of gelu's approximation by tanh (Hendrycks and Gimpel 2016).
constexpr float kGeluScale = 0.7978845608F;
constexpr float kGeluCube = 0.044715F;

// (1 + tanh(x)) / 2 is the sigmoid of 2x, which keeps its digits where the sum would lose them: for z below
// 0.
inline __attribute__((always_inline)) float GeluSigmoid(float z) {
  return Sigmoid(2.0F * kGeluScale * (z + kGeluCube * z * z * z));
}

template <Gate kAct>
inline __attribute__((always_inline)) float Act(float z) {
  return z * (kAct == Gate::kSilu ? Sigmoid(z) : GeluSigmoid(z));
}
template <Gate kAct>
inline __attribute__((always_inline)) float ActSlope(float z) {
  if constexpr (kAct == Gate::kSilu) {
    const float s = Sigmoid(z);
    return s * (1.0F + z * (1.0F - s));
  }
  const float s = GeluSigmoid(z);
  return s + z * s * (1.0F - s) * 2.0F * kGeluScale * (1.0F + 3.0F * kGeluCube * z * z);
}

template <Gate kAct, typename T>
inline __attribute__((always_inline)) void GateRow(const T* gate, const T* up, int64_t columns, T* y) {
  for (int64_t i = 0; i < columns; ++i) FromFloat(Act<kAct>(ToFloat(gate[i])) * ToFloat(up[i]), &y[i]);
}
template <Gate kAct, typename T>
inline __attribute__((always_inline)) void GateRowBack(const T* dy, int64_t columns, T* gate, T* up) {
  for (int64_t i = 0; i < columns; ++i) {
    const float z = ToFloat(gate[i]);
    const float d = ToFloat(dy[i]);
    FromFloat(d * ToFloat(up[i]) * ActSlope<kAct>(z), &gate[i]);
    FromFloat(d * Act<kAct>(z), &up[i]);
  }
}
HEADRACE_KERNEL void SiluRowF32(const float* g, const float* u, int64_t n, float* y) {
  GateRow<Gate::kSilu>(g, u, n, y);
}
HEADRACE_KERNEL void SiluRowBF16(const BF16* g, const BF16* u, int64_t n, BF16* y) {
  GateRow<Gate::kSilu>(g, u, n, y);
}
HEADRACE_KERNEL void GeluRowF32(const float* g, const float* u, int64_t n, float* y) {
  GateRow<Gate::kGelu>(g, u, n, y);
}
HEADRACE_KERNEL void GeluRowBF16(const BF16* g, const BF16* u, int64_t n, BF16* y) {
  GateRow<Gate::kGelu>(g, u, n, y);
}
HEADRACE_KERNEL void SiluRowBackF32(const float* d, int64_t n, float* g, float* u) {
  GateRowBack<Gate::kSilu>(d, n, g, u);
}
HEADRACE_KERNEL void SiluRowBackBF16(const BF16* d, int64_t n, BF16* g, BF16* u) {
  GateRowBack<Gate::kSilu>(d, n, g, u);
}
HEADRACE_KERNEL void GeluRowBackF32(const float* d, int64_t n, float* g, float* u) {
  GateRowBack<Gate::kGelu>(d, n, g, u);
}
HEADRACE_KERNEL void GeluRowBackBF16(const BF16* d, int64_t n, BF16* g, BF16* u) {
  GateRowBack<Gate::kGelu>(d, n, g, u);
}

void GateRowOf(Gate act, const float* g, const float* u, int64_t n, float* y) {
  act == Gate::kSilu ? SiluRowF32(g, u, n, y) : GeluRowF32(g, u, n, y);
}
void GateRowOf(Gate act, const BF16* g, const BF16* u, int64_t n, BF16* y) {
  act == Gate::kSilu ? SiluRowBF16(g, u, n, y) : GeluRowBF16(g, u, n, y);
}
void GateRowBackOf(Gate act, const float* d, int64_t n, float* g, float* u) {
  act == Gate::kSilu ? SiluRowBackF32(d, n, g, u) : GeluRowBackF32(d, n, g, u);
}
void GateRowBackOf(Gate act, const BF16* d, int64_t n, BF16* g, BF16* u) {
  act == Gate::kSilu ? SiluRowBackBF16(d, n, g, u) : GeluRowBackBF16(d, n, g, u);
}

template <typename T>
inline __attribute__((always_inline)) void TurnHead(T* head, int64_t half, RopePairs pairs,
                                                    const float* cosines, const float* sines, float sign) {
  const int64_t step = pairs == RopePairs::kAdjacent ? 2 : 1;
  const int64_t apart = pairs == RopePairs::kAdjacent ? 1 : half;
  for (int64_t i = 0; i < half; ++i) {
    const float a = ToFloat(head[i * step]);
    const float b = ToFloat(head[i * step + apart]);
    const float sine = sign * sines[i];
    FromFloat(a * cosines[i] - b * sine, &head[i * step]);
    FromFloat(a * sine + b * cosines[i], &head[i * step + apart]);
  }
}
HEADRACE_KERNEL void TurnHeadF32(float* head, int64_t half, RopePairs pairs, const float* c, const float* s,
                                 float sign) {
  TurnHead(head, half, pairs, c, s, sign);
}
HEADRACE_KERNEL void TurnHeadBF16(BF16* head, int64_t half, RopePairs pairs, const float* c, const float* s,
                                  float sign) {
  TurnHead(head, half, pairs, c, s, sign);
}
void TurnHeadOf(float* h, int64_t n, RopePairs p, const float* c, const float* s, float sign) {
  TurnHeadF32(h, n, p, c, s, sign);
}
void TurnHeadOf(BF16* h, int64_t n, RopePairs p, const float* c, const float* s, float sign) {
  TurnHeadBF16(h, n, p, c, s, sign);
}

}  // namespace

void RmsNorm(const Matrix& x, std::span<const float> weight, float epsilon, const Matrix& y,
             std::span<float> inverse) {
  const auto width = static_cast<int64_t>(weight.size());
  HEADRACE_CHECK(SameShape(x, y) && width > 0 && x.columns % width == 0);
  const int64_t groups = x.columns / width;
  HEADRACE_CHECK(static_cast<int64_t>(inverse.size()) == x.rows * groups);
  WithType(x.type, [&]<typename T>(T) {
#pragma omp parallel for
    for (int64_t row = 0; row < x.rows; ++row)
      for (int64_t group = 0; group < groups; ++group)
        inverse[static_cast<size_t>(row * groups + group)] = NormRowOf(
            x.Row<T>(row) + group * width, weight.data(), width, epsilon, y.Row<T>(row) + group * width);
  });
}

void RmsNormBackward(const Matrix& dy, const Matrix& x, std::span<const float> weight,
                     std::span<const float> inverse, const Matrix& dx, Into into,
                     std::span<float> weight_gradient) {
  const auto width = static_cast<int64_t>(weight.size());
  HEADRACE_CHECK(SameShape(x, dy) && SameShape(x, dx) && width > 0 && x.columns % width == 0);
  const int64_t groups = x.columns / width;
  HEADRACE_CHECK(static_cast<int64_t>(inverse.size()) == x.rows * groups);
  HEADRACE_CHECK(weight_gradient.empty() || weight_gradient.size() == weight.size());
  constexpr int64_t kBlock = 64;  // rows
  const int64_t blocks = (x.rows + kBlock - 1) / kBlock;
  const size_t trained = weight_gradient.size();
  std::vector<float> sums(static_cast<size_t>(blocks) * trained);
  WithType(x.type, [&]<typename T>(T) {
#pragma omp parallel for
    for (int64_t block = 0; block < blocks; ++block) {
      float* sum = trained == 0 ? nullptr : &sums[static_cast<size_t>(block) * trained];
      for (int64_t row = block * kBlock; row < std::min(x.rows, (block + 1) * kBlock); ++row)
        for (int64_t group = 0; group < groups; ++group)
          NormRowBackOf(dy.Row<T>(row) + group * width, x.Row<T>(row) + group * width, weight.data(),
                        inverse[static_cast<size_t>(row * groups + group)], width, into,
                        dx.Row<T>(row) + group * width, sum);
    }
  });
  for (int64_t block = 0; block < blocks; ++block)
    for (size_t i = 0; i < trained; ++i) weight_gradient[i] += sums[static_cast<size_t>(block) * trained + i];
}

RopeTable FillRope(int64_t positions, int64_t head_size, double base, std::span<const float> factors,
                   std::span<float> table) {
  const int64_t half = head_size / 2;
  HEADRACE_CHECK(head_size % 2 == 0 && static_cast<int64_t>(table.size()) == 2 * positions * half);
  HEADRACE_CHECK(factors.empty() || static_cast<int64_t>(factors.size()) == half);
  const auto cosines = table.first(static_cast<size_t>(positions * half));
  const auto sines = table.last(static_cast<size_t>(positions * half));
  for (int64_t i = 0; i < half; ++i) {
    const double divisor = factors.empty() ? 1.0 : factors[static_cast<size_t>(i)];
    const double frequency =
        std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_size)) / divisor;
    for (int64_t position = 0; position < positions; ++position) {
      const auto at = static_cast<size_t>(position * half + i);
      cosines[at] = static_cast<float>(std::cos(static_cast<double>(position) * frequency));
      sines[at] = static_cast<float>(std::sin(static_cast<double>(position) * frequency));
    }
  }
  return {cosines, sines, head_size};
}

void Rope(const Matrix& x, std::span<const int32_t> positions, const RopeTable& table, RopePairs pairs,
          Turn turn) {
  const int64_t half = table.head_size / 2;
  HEADRACE_CHECK(half > 0 && x.columns % table.head_size == 0 &&
                 static_cast<int64_t>(positions.size()) == x.rows);
  const int64_t known = static_cast<int64_t>(table.cosines.size()) / half;
  for (const int32_t position : positions) HEADRACE_CHECK(position >= 0 && position < known);
  const float sign = turn == Turn::kForward ? 1.0F : -1.0F;
  WithType(x.type, [&]<typename T>(T) {
#pragma omp parallel for
    for (int64_t row = 0; row < x.rows; ++row) {
      const int64_t at = positions[static_cast<size_t>(row)] * half;
      for (int64_t head = 0; head < x.columns; head += table.head_size)
        TurnHeadOf(x.Row<T>(row) + head, half, pairs, &table.cosines[static_cast<size_t>(at)],
                   &table.sines[static_cast<size_t>(at)], sign);
    }
  });
}

void Gated(const Matrix& gate, const Matrix& up, Gate act, const Matrix& y) {
  HEADRACE_CHECK(SameShape(gate, up) && SameShape(gate, y));
  WithType(gate.type, [&]<typename T>(T) {
#pragma omp parallel for
    for (int64_t row = 0; row < gate.rows; ++row)
      GateRowOf(act, gate.Row<T>(row), up.Row<T>(row), gate.columns, y.Row<T>(row));
  });
}

void GatedBackward(const Matrix& dy, Gate act, const Matrix& gate, const Matrix& up) {
  HEADRACE_CHECK(SameShape(gate, up) && SameShape(gate, dy));
  WithType(gate.type, [&]<typename T>(T) {
#pragma omp parallel for
    for (int64_t row = 0; row < gate.rows; ++row)
      GateRowBackOf(act, dy.Row<T>(row), gate.columns, gate.Row<T>(row), up.Row<T>(row));
  });
}

void AddRows(const Matrix& from, const Matrix& to) {
  HEADRACE_CHECK(SameShape(from, to));
  WithType(from.type, [&]<typename T>(T) {
#pragma omp parallel for
    for (int64_t row = 0; row < from.rows; ++row) {
      const T* source = from.Row<T>(row);
      T* target = to.Row<T>(row);
      for (int64_t i = 0; i < from.columns; ++i)
        FromFloat(ToFloat(target[i]) + ToFloat(source[i]), &target[i]);
    }
  });
}

void AddBias(std::span<const float> bias, const Matrix& to) {
  HEADRACE_CHECK(static_cast<int64_t>(bias.size()) == to.columns);
  WithType(to.type, [&]<typename T>(T) {
#pragma omp parallel for
    for (int64_t row = 0; row < to.rows; ++row) BiasRowOf(bias.data(), to.columns, to.Row<T>(row));
  });
}

void Scale(float factor, const Matrix& x) {
  WithType(x.type, [&]<typename T>(T) {
    T rounded;
    FromFloat(factor, &rounded);
#pragma omp parallel for
    for (int64_t row = 0; row < x.rows; ++row) {
      T* values = x.Row<T>(row);
      for (int64_t i = 0; i < x.columns; ++i) FromFloat(ToFloat(values[i]) * ToFloat(rounded), &values[i]);
    }
  });
}

}  // namespace headrace::nn
