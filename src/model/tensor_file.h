// tensor_file: the weights of a GGUF file as numbers, whatever they are stored as, and what its head says of
// them. For files that a probe has passed (probe.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace headrace::model {

struct TensorFacts {
  std::string name;
  std::string type;  // ggml's: "f32", "bf16", "q4_K"
  // As they lie in the file, slowest first: (outputs, inputs) of a weight, (values) of a norm.
  std::vector<int64_t> shape;

  int64_t rows() const;  // all but the last of `shape` together
  int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
};

// Immutable, shared by threads. The file is mapped.
class TensorFile {
 public:
  // Corrupt: not a GGUF file, or one whose tensors lie beyond its end. Unsupported: one file of several.
  static Result<std::shared_ptr<const TensorFile>> Open(const std::string& path);
  virtual ~TensorFile() = default;

  virtual const std::string& path() const = 0;
  // In the file's order.
  virtual const std::vector<TensorFacts>& tensors() const = 0;
  // Null: it holds none of that name.
  virtual const TensorFacts* Find(std::string_view name) const = 0;
  // Rows [first, first + count) of a tensor that is there, turned to float32: (count, columns).
  virtual Status Read(const TensorFacts& tensor, int64_t first, int64_t count, float* out) const = 0;

  // Values of the head; nothing where there is none of that name or type. Whole numbers are numbers, too.
  virtual std::optional<std::string> Text(std::string_view key) const = 0;
  virtual std::optional<double> Number(std::string_view key) const = 0;
  virtual std::optional<std::vector<double>> Numbers(std::string_view key) const = 0;
};

}  // namespace headrace::model
