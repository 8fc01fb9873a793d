#include "nn/linear.h"

#include <cmath>
#include <utility>

#include "nn/scratch.h"

namespace headrace::nn {
namespace {

void Copy(std::span<const float> from, float scale, const Matrix& to) {
  HEADRACE_CHECK(static_cast<int64_t>(from.size()) == to.rows * to.columns && to.stride == to.columns);
  for (size_t i = 0; i < from.size(); ++i) {
    if (to.type == DType::kF32) {
      static_cast<float*>(to.data)[i] = from[i] * scale;
    } else {
      FromFloat(from[i] * scale, &static_cast<BF16*>(to.data)[i]);
    }
  }
}

Parameter Make(std::string name, int64_t rows, int64_t columns) {
  const auto size = static_cast<size_t>(rows * columns);
  return {std::move(name), rows, columns, std::vector<float>(size), std::vector<float>(size)};
}

Matrix Gradient(Parameter* parameter) {
  return Matrix::Of(parameter->gradient.data(), parameter->rows, parameter->columns);
}

}  // namespace

Linear::Linear(Matmul* matmul, const Matrix& weight, std::vector<LinearPart> parts, const std::string& layer,
               std::mt19937_64* random)
    : matmul_(matmul),
      type_(weight.type),
      forward_(matmul->Pack(weight, Transpose::kYes)),
      backward_(matmul->Pack(weight, Transpose::kNo)) {
  int64_t output = 0;
  int64_t up = 0;
  const float reach = 1.0F / std::sqrt(static_cast<float>(weight.columns));
  std::uniform_real_distribution<float> uniform(-reach, reach);
  for (const LinearPart& part : parts) {
    if (part.rank > 0) {
      places_.push_back({parameters_.size(), output, part.outputs, ranks_, part.rank, part.scale});
      ranks_ += part.rank;
      up += part.outputs * part.rank;
      parameters_.push_back(Make(layer + part.name + ".lora_a", part.rank, weight.columns));
      for (float& value : parameters_.back().values) value = uniform(*random);
      parameters_.push_back(Make(layer + part.name + ".lora_b", part.outputs, part.rank));
    }
    output += part.outputs;
  }
  HEADRACE_CHECK(output == weight.rows);
  down_ = std::make_unique<char[]>(static_cast<size_t>(ranks_ * weight.columns) * SizeOf(type_));
  up_ = std::make_unique<char[]>(static_cast<size_t>(up) * SizeOf(type_));
  Refresh();
}

Matrix Linear::Up(const Place& place) const {
  int64_t before = 0;
  for (const Place& other : places_) {
    if (other.first == place.first) break;
    before += other.outputs * other.rank;
  }
  char* first = up_.get() + static_cast<size_t>(before) * SizeOf(type_);
  return {first, type_, place.outputs, place.rank, place.rank};
}

void Linear::Refresh() {
  for (const Place& place : places_) {
    Copy(parameters_[place.parameter].values, place.scale, Down().Part(place.first, 0, place.rank, inputs()));
    Copy(parameters_[place.parameter + 1].values, 1, Up(place));
  }
}

void Linear::Forward(const Matrix& x, const Matrix& y, const Matrix& kept) const {
  matmul_->Multiply(x, *forward_, y, Into::kReplace);
  if (ranks_ == 0) return;
  matmul_->Multiply(x, Transpose::kNo, Down(), Transpose::kYes, kept, Into::kReplace);
  for (const Place& place : places_)
    matmul_->Multiply(kept.Part(0, place.first, x.rows, place.rank), Transpose::kNo, Up(place),
                      Transpose::kYes, y.Part(0, place.output, x.rows, place.outputs), Into::kAdd);
}

void Linear::Backward(const Matrix& dy, const Matrix& x, const Matrix& kept, const Matrix& dx) {
  const bool wanted = dx.data != nullptr;
  if (wanted) matmul_->Multiply(dy, *backward_, dx, Into::kReplace);
  if (ranks_ == 0) return;
  const Scratch back(type_, x.rows, ranks_);  // the gradient by `kept`
  for (const Place& place : places_) {
    const Matrix part = dy.Part(0, place.output, x.rows, place.outputs);
    Parameter& a = parameters_[place.parameter];
    Parameter& b = parameters_[place.parameter + 1];
    const Matrix t = back.matrix().Part(0, place.first, x.rows, place.rank);
    matmul_->Multiply(part, Transpose::kYes, kept.Part(0, place.first, x.rows, place.rank), Transpose::kNo,
                      Gradient(&b), Into::kAdd);
    matmul_->Multiply(part, Transpose::kNo, Up(place), Transpose::kNo, t, Into::kReplace);
    // By scale · A, which is what products read; `a` itself gets it times the scale.
    std::vector<float> scaled(a.values.size());
    matmul_->Multiply(t, Transpose::kYes, x, Transpose::kNo, Matrix::Of(scaled.data(), a.rows, a.columns),
                      Into::kReplace);
    for (size_t i = 0; i < scaled.size(); ++i) a.gradient[i] += place.scale * scaled[i];
  }
  if (wanted) matmul_->Multiply(back.matrix(), Transpose::kNo, Down(), Transpose::kNo, dx, Into::kAdd);
}

}  // namespace headrace::nn
