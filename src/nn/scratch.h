// scratch: memory of a matrix for as long as an operation takes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "nn/tensor.h"

namespace headrace::nn {

// Not initialised.
class Scratch {
 public:
  Scratch(DType type, int64_t rows, int64_t columns)
      : held_(static_cast<char*>(
            std::malloc(std::max<size_t>(1, static_cast<size_t>(rows * columns) * SizeOf(type))))),
        matrix_(held_.get(), type, rows, columns, columns) {
    HEADRACE_CHECK(held_ != nullptr);
  }
  const Matrix& matrix() const { return matrix_; }

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  std::unique_ptr<char, Free> held_;
  Matrix matrix_;
};

}  // namespace headrace::nn
