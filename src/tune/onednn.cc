#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <dnnl.hpp>

#include "tune/matmul.h"

namespace headrace::tune {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

memory::data_type TypeOf(DType type) {
  return type == DType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
}

// Of a matrix as a product sees it: the transpose of what lies in memory, where that is asked for.
memory::desc DescOf(const Matrix& matrix, Transpose transpose) {
  const bool turned = transpose == Transpose::kYes;
  const memory::dims shape =
      turned ? memory::dims{matrix.columns, matrix.rows} : memory::dims{matrix.rows, matrix.columns};
  const memory::dims strides = turned ? memory::dims{1, matrix.stride} : memory::dims{matrix.stride, 1};
  return {shape, TypeOf(matrix.type), strides};
}

// One for the process: streams of its threads refer to it.
const dnnl::engine& Processor() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

class OneDnnPacked : public Packed {
 public:
  OneDnnPacked(int64_t rows, int64_t columns, memory held) : Packed(rows, columns), held(std::move(held)) {}
  int64_t bytes() const override { return static_cast<int64_t>(held.get_desc().get_size()); }
  const memory held;
};

class OneDnn : public Matmul {
 public:
  void Multiply(const Matrix& a, Transpose ta, const Matrix& b, Transpose tb, const Matrix& out,
                Into into) override {
    const memory::desc left = DescOf(a, ta);
    const memory::desc right = DescOf(b, tb);
    Check(left, right, out);
    if (out.rows == 0 || out.columns == 0) return;
    Execute(left, a.data, memory(right, Processor(), b.data), right, out, into);
  }

  std::unique_ptr<Packed> Pack(const Matrix& b, Transpose tb) override {
    const memory::desc plain = DescOf(b, tb);
    const int64_t rows = plain.dims()[0];
    const int64_t columns = plain.dims()[1];
    // The order that kernels want depends on their rows by little; these are what a step has.
    const memory::desc a({kUsualRows, rows}, TypeOf(b.type), Tag::ab);
    const memory::desc any({rows, columns}, TypeOf(b.type), Tag::any);
    const memory::desc out({kUsualRows, columns}, TypeOf(b.type), Tag::ab);
    const dnnl::matmul::primitive_desc wanted(dnnl::matmul::desc(a, any, out), Processor());
    memory from(plain, Processor(), b.data);
    memory held(wanted.weights_desc(), Processor());
    dnnl::stream stream(Processor());
    dnnl::reorder(from, held).execute(stream, from, held);
    stream.wait();
    return std::make_unique<OneDnnPacked>(rows, columns, std::move(held));
  }

  void Multiply(const Matrix& a, const Packed& b, const Matrix& out, Into into) override {
    const auto& packed = static_cast<const OneDnnPacked&>(b);  // only Pack makes them
    const memory::desc left = DescOf(a, Transpose::kNo);
    const memory::desc right = packed.held.get_desc();
    Check(left, right, out);
    if (out.rows == 0 || out.columns == 0) return;
    Execute(left, a.data, packed.held, right, out, into);
  }

  bool Supports(DType type) const override { return type == DType::kF32 || Has(dnnl::cpu_isa::avx512_core); }
  bool Fast(DType type) const override { return type == DType::kF32 || Has(dnnl::cpu_isa::avx512_core_bf16); }

 private:
  static constexpr int64_t kUsualRows = 1024;
  // Each set of instructions is told by bits of its own and those of the sets that it contains.
  static bool Has(dnnl::cpu_isa wanted) {
    const auto bits = static_cast<unsigned>(wanted);
    return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bits) == bits;
  }

  // Kernels that are kept. A model has some dozen shapes; attention and the last rows of a loss add a few.
  static constexpr size_t kMostKernels = 1024;

  static void Check(const memory::desc& left, const memory::desc& right, const Matrix& out) {
    HEADRACE_CHECK(left.dims()[1] == right.dims()[0] && left.dims()[0] == out.rows &&
                   right.dims()[1] == out.columns);
    HEADRACE_CHECK(left.data_type() == right.data_type());
  }

  void Execute(const memory::desc& left, void* a, const memory& b, const memory::desc& right,
               const Matrix& out, Into into) {
    const memory::desc result = DescOf(out, Transpose::kNo);
    const Kernel kernel = KernelOf(left, right, result, into);
    // A stream of the calling thread: oneDNN's are not to be shared.
    thread_local dnnl::stream stream(Processor());
    const memory first(left, Processor(), a);
    const memory last(result, Processor(), out.data);
    // So is the room that a kernel works in: its own is one for all threads.
    thread_local std::vector<char> room;
    room.resize(std::max(room.size(), kernel.room.get_size()));
    const memory scratchpad(kernel.room, Processor(), room.data());
    kernel.product.execute(stream, {{DNNL_ARG_SRC, first},
                                    {DNNL_ARG_WEIGHTS, b},
                                    {DNNL_ARG_DST, last},
                                    {DNNL_ARG_SCRATCHPAD, scratchpad}});
    stream.wait();
  }

  using Key = std::array<int64_t, 11>;
  // All that decides on a kernel. The order within a packed matrix follows from its shape and type.
  static Key KeyOf(const memory::desc& left, const memory::desc& right, const memory::desc& out, Into into) {
    const auto stride = [](const memory::desc& desc, int at) {
      return desc.data.format_desc.blocking.strides[at];
    };
    const bool packed = right.data.format_desc.blocking.inner_nblks > 0;
    return {left.dims()[0],
            left.dims()[1],
            right.dims()[1],
            stride(left, 0),
            stride(left, 1),
            packed ? -1 : stride(right, 0),
            packed ? -1 : stride(right, 1),
            stride(out, 0),
            static_cast<int64_t>(left.data_type()),
            static_cast<int64_t>(out.data_type()),
            static_cast<int64_t>(into)};
  }

  struct Kernel {
    dnnl::matmul product;
    memory::desc room;
  };
  Kernel KernelOf(const memory::desc& left, const memory::desc& right, const memory::desc& out, Into into) {
    const Key key = KeyOf(left, right, out, into);
    const std::lock_guard lock(mutex_);
    const auto found = kernels_.find(key);
    if (found != kernels_.end()) return found->second;
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (into == Into::kAdd) {
      dnnl::post_ops add;
      add.append_sum(1);
      attributes.set_post_ops(add);
    }
    if (kernels_.size() >= kMostKernels) kernels_.clear();
    const dnnl::matmul::primitive_desc described(dnnl::matmul::desc(left, right, out), attributes,
                                                 Processor());
    return kernels_.emplace(key, Kernel{dnnl::matmul(described), described.scratchpad_desc()}).first->second;
  }

  std::mutex mutex_;
  std::map<Key, Kernel> kernels_;
};

}  // namespace

std::unique_ptr<Matmul> OneDnnMatmul() { return std::make_unique<OneDnn>(); }

}  // namespace headrace::tune
