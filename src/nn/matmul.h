// matmul: products of matrices, by a library that knows the processor.
#pragma once

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "nn/tensor.h"

namespace headrace::nn {

// A matrix that many products read, copied once into the order in which the processor's kernels want it.
class Packed {
 public:
  Packed(int64_t rows, int64_t columns) : rows_(rows), columns_(columns) {}
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;
  virtual ~Packed() = default;
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  virtual int64_t bytes() const = 0;

 private:
  int64_t rows_;
  int64_t columns_;
};

enum class Transpose : uint8_t { kNo, kYes };

// Sums are made in float32 whatever the types are. For the same shapes, types and processor the same bits
// come out, whatever the number of threads. Any thread may call; within an OpenMP parallel region a product
// takes the calling thread alone. Shapes or types that do not go together are the caller's error, and end the
// program.
class Matmul {
 public:
  virtual ~Matmul() = default;

  // out (m × n) = a (m × k) · b (k × n), or out += of it. A transposed matrix is handed over as it lies in
  // memory: b with kYes is n × k.
  virtual void Multiply(const Matrix& a, Transpose ta, const Matrix& b, Transpose tb, const Matrix& out,
                        Into into) = 0;

  // b, or its transpose, for Multiply(a, packed, …): the result is rows() × columns() = k × n.
  virtual std::unique_ptr<Packed> Pack(const Matrix& b, Transpose tb) = 0;
  // out (m × n) = a (m × k) · b; a has the type of b.
  virtual void Multiply(const Matrix& a, const Packed& b, const Matrix& out, Into into) = 0;

  // Whether there are products of this type on this processor, and whether they are among its instructions:
  // if not, they take longer than those of float32.
  virtual bool Supports(DType type) const = 0;
  virtual bool Fast(DType type) const = 0;
};

// By oneDNN, on this machine's processors, with OpenMP's threads.
std::unique_ptr<Matmul> OneDnnMatmul();

}  // namespace headrace::nn
