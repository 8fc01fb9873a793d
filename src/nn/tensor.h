// tensor: matrices as the trainer's kernels take them. They own nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace headrace::nn {

enum class DType : uint8_t { kF32, kBF16 };

// What becomes of the values that are there where a result goes.
enum class Into : uint8_t { kReplace, kAdd };

constexpr size_t SizeOf(DType type) { return type == DType::kF32 ? 4 : 2; }

// The upper half of a float32: 8 bits of exponent, 7 of fraction.
struct BF16 {
  uint16_t bits = 0;
};
inline float ToFloat(float value) { return value; }
inline float ToFloat(BF16 value) {
  const uint32_t wide = static_cast<uint32_t>(value.bits) << 16;
  float result = 0;
  std::memcpy(&result, &wide, 4);
  return result;
}
inline void FromFloat(float value, float* out) { *out = value; }
// To the nearest, ties to even. A NaN stays one.
inline void FromFloat(float value, BF16* out) {
  uint32_t wide = 0;
  std::memcpy(&wide, &value, 4);
  const uint32_t rounded = wide + 0x7FFF + (wide >> 16 & 1);
  const uint32_t quiet = wide | 0x400000;
  out->bits = static_cast<uint16_t>(((wide & 0x7FFFFFFF) > 0x7F800000 ? quiet : rounded) >> 16);
}

template <typename T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<float>() {
  return DType::kF32;
}
template <>
constexpr DType DTypeOf<BF16>() {
  return DType::kBF16;
}

// Row-major; consecutive rows are `stride` elements apart.
struct Matrix {
  void* data = nullptr;
  DType type = DType::kF32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;

  Matrix() = default;
  Matrix(void* data, DType type, int64_t rows, int64_t columns, int64_t stride)
      : data(data), type(type), rows(rows), columns(columns), stride(stride) {}
  template <typename T>
  static Matrix Of(T* data, int64_t rows, int64_t columns) {
    return {data, DTypeOf<T>(), rows, columns, columns};
  }

  template <typename T>
  T* Row(int64_t row) const {
    HEADRACE_CHECK(DTypeOf<T>() == type && row >= 0 && row < rows);
    return static_cast<T*>(data) + row * stride;
  }
  // Rows and columns from (row, column) on.
  Matrix Part(int64_t row, int64_t column, int64_t row_count, int64_t column_count) const {
    HEADRACE_CHECK(row + row_count <= rows && column + column_count <= columns);
    char* first = static_cast<char*>(data) + (row * stride + column) * static_cast<int64_t>(SizeOf(type));
    return {first, type, row_count, column_count, stride};
  }
};

}  // namespace headrace::nn
