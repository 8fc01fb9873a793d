// linear: a frozen weight, and the low-rank adapters that are trained beside it.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "nn/matmul.h"

namespace headrace::nn {

// Outputs of a weight that have an adapter of their own: of a weight that holds queries, keys and values in
// one, each is a part.
struct LinearPart {
  std::string name;  // "attn_q"
  int64_t outputs = 0;
  int64_t rank = 0;  // 0: no adapter
  float scale = 0;   // alpha / rank, or alpha / sqrt(rank) (Kalajdzievski 2023, rsLoRA)
};

// Trained values and their gradient, both float32.
struct Parameter {
  std::string name;  // "blk.3.attn_q.lora_a"
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<float> values;
  std::vector<float> gradient;
};

// y = x · Wᵀ + scale · (x · Aᵀ) · Bᵀ for each part (Hu et al. 2021, LoRA): W (outputs, inputs) is frozen, A
// (rank, inputs), B (outputs, rank). No gradient of W is made. Not safe for several threads at once.
class Linear {
 public:
  // `weight` holds the parts' rows one below the other; it is not needed afterwards. A is drawn from
  // U(-1/sqrt(inputs), 1/sqrt(inputs)), as peft does, B is zero: an adapter that was not trained changes
  // nothing. `layer` is put before the names of parameters.
  Linear(Matmul* matmul, const Matrix& weight, std::vector<LinearPart> parts, const std::string& layer,
         std::mt19937_64* random);

  int64_t inputs() const { return forward_->rows(); }
  int64_t outputs() const { return forward_->columns(); }
  // Columns of `kept`: what the forward pass keeps for the backward pass, beside x.
  int64_t ranks() const { return ranks_; }

  // y (rows, outputs) is replaced; kept: (rows, ranks()). All of the weight's type.
  void Forward(const Matrix& x, const Matrix& y, const Matrix& kept) const;
  // Adds to the parameters' gradients. dx (rows, inputs) is replaced by the gradient by x; none is made where
  // dx.data is null.
  void Backward(const Matrix& dy, const Matrix& x, const Matrix& kept, const Matrix& dx);

  std::vector<Parameter>& parameters() { return parameters_; }
  // After the parameters' values have changed: what products read is made again from them.
  void Refresh();
  // Bytes of the frozen weight.
  int64_t bytes() const { return forward_->bytes() + backward_->bytes(); }

 private:
  // Of a part that has an adapter.
  struct Place {
    size_t parameter = 0;  // of A; that of B follows
    int64_t output = 0;    // its first column of y
    int64_t outputs = 0;
    int64_t first = 0;  // its first column of `kept`
    int64_t rank = 0;
    float scale = 0;
  };
  Matrix Down() const { return {down_.get(), type_, ranks_, inputs(), inputs()}; }
  Matrix Up(const Place& place) const;

  Matmul* matmul_;
  DType type_;
  std::unique_ptr<Packed> forward_;   // (inputs, outputs)
  std::unique_ptr<Packed> backward_;  // (outputs, inputs)
  std::vector<Place> places_;
  int64_t ranks_ = 0;
  std::vector<Parameter> parameters_;  // A and B of each place
  // Copies of the weight's type: scale · A of all places, one below the other, and B of each.
  std::unique_ptr<char[]> down_;
  std::unique_ptr<char[]> up_;
};

}  // namespace headrace::nn
