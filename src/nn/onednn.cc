#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <dnnl.hpp>

#include "nn/matmul.h"
#include "nn/threads.h"

namespace headrace::nn {
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

// A product is computed in pieces of the result, each by one thread: how a kernel divides its sums can depend
// on how many threads it has, and here does not. Pieces depend on shapes alone.
constexpr int64_t kPieceRows = 256;
constexpr int64_t kPieceColumns = 256;
constexpr int64_t kPackedColumns = 768;  // of a packed matrix: its pieces fit into a processor's caches

class OneDnnPacked : public Packed {
 public:
  OneDnnPacked(int64_t rows, int64_t columns, std::vector<memory> pieces)
      : Packed(rows, columns), pieces(std::move(pieces)) {}
  int64_t bytes() const override {
    int64_t sum = 0;
    for (const memory& piece : pieces) sum += static_cast<int64_t>(piece.get_desc().get_size());
    return sum;
  }
  const std::vector<memory> pieces;  // of kPackedColumns columns each, and the rest
};

// Rows and columns of what the product sees.
Matrix PartOf(const Matrix& matrix, Transpose transpose, int64_t row, int64_t column, int64_t rows,
              int64_t columns) {
  return transpose == Transpose::kYes ? matrix.Part(column, row, columns, rows)
                                      : matrix.Part(row, column, rows, columns);
}

class OneDnn : public Matmul {
 public:
  void Multiply(const Matrix& a, Transpose ta, const Matrix& b, Transpose tb, const Matrix& out,
                Into into) override {
    const int64_t k = ta == Transpose::kYes ? a.rows : a.columns;
    HEADRACE_CHECK(a.type == b.type && out.rows == (ta == Transpose::kYes ? a.columns : a.rows) &&
                   k == (tb == Transpose::kYes ? b.columns : b.rows) &&
                   out.columns == (tb == Transpose::kYes ? b.rows : b.columns));
    InPieces(out, kPieceColumns, [&](int64_t row, int64_t column, const Matrix& part) {
      const Matrix right = PartOf(b, tb, 0, column, k, part.columns);
      Execute(PartOf(a, ta, row, 0, part.rows, k), ta, memory(DescOf(right, tb), Processor(), right.data),
              part, into);
    });
  }

  std::unique_ptr<Packed> Pack(const Matrix& b, Transpose tb) override {
    const int64_t rows = tb == Transpose::kYes ? b.columns : b.rows;
    const int64_t columns = tb == Transpose::kYes ? b.rows : b.columns;
    const OneThread alone;
    std::vector<memory> pieces;
    for (int64_t column = 0; column < columns; column += kPackedColumns) {
      const int64_t count = std::min(kPackedColumns, columns - column);
      const Matrix part = PartOf(b, tb, 0, column, rows, count);
      // The order that kernels want depends on their rows by little.
      const memory::desc a({kPieceRows, rows}, TypeOf(b.type), Tag::ab);
      const memory::desc any({rows, count}, TypeOf(b.type), Tag::any);
      const memory::desc out({kPieceRows, count}, TypeOf(b.type), Tag::ab);
      const dnnl::matmul::primitive_desc wanted(dnnl::matmul::desc(a, any, out), Processor());
      memory from(DescOf(part, tb), Processor(), part.data);
      memory held(wanted.weights_desc(), Processor());
      dnnl::stream stream(Processor());
      dnnl::reorder(from, held).execute(stream, from, held);
      stream.wait();
      pieces.push_back(std::move(held));
    }
    return std::make_unique<OneDnnPacked>(rows, columns, std::move(pieces));
  }

  void Multiply(const Matrix& a, const Packed& b, const Matrix& out, Into into) override {
    const auto& packed = static_cast<const OneDnnPacked&>(b);  // only Pack makes them
    HEADRACE_CHECK(out.rows == a.rows && a.columns == b.rows() && out.columns == b.columns());
    InPieces(out, kPackedColumns, [&](int64_t row, int64_t column, const Matrix& part) {
      const Matrix left = a.Part(row, 0, part.rows, a.columns);
      const memory& right = packed.pieces[static_cast<size_t>(column / kPackedColumns)];
      // The kernels for packed matrices write rows that follow one another.
      if (part.stride == part.columns) return Execute(left, Transpose::kNo, right, part, into);
      thread_local std::vector<char> room;
      room.resize(static_cast<size_t>(kPieceRows * kPackedColumns) * sizeof(float));
      // What is added is rounded once.
      const DType type = into == Into::kAdd ? DType::kF32 : part.type;
      const Matrix result(room.data(), type, part.rows, part.columns, part.columns);
      Execute(left, Transpose::kNo, right, result, Into::kReplace);
      if (part.type == DType::kF32) {
        Move<float, float>(result, part, into);
      } else if (type == DType::kF32) {
        Move<float, BF16>(result, part, into);
      } else {
        Move<BF16, BF16>(result, part, into);
      }
    });
  }

  bool Supports(DType type) const override { return type == DType::kF32 || Has(dnnl::cpu_isa::avx512_core); }
  bool Fast(DType type) const override { return type == DType::kF32 || Has(dnnl::cpu_isa::avx512_core_bf16); }

 private:
  // Each set of instructions is told by bits of its own and those of the sets that it contains.
  static bool Has(dnnl::cpu_isa wanted) {
    const auto bits = static_cast<unsigned>(wanted);
    return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bits) == bits;
  }

  // Kernels that are kept. A model has some dozen shapes; attention and the last rows of a loss add a few.
  static constexpr size_t kMostKernels = 1024;

  // While it lives, what oneDNN is asked by this thread is done by this thread alone.
  class OneThread {
   public:
    OneThread() : before_(ThreadsInUse()) { UseThreads(1); }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;
    ~OneThread() { UseThreads(before_); }
    int before() const { return before_; }

   private:
    int before_;
  };

  template <typename From, typename To>
  static void Move(const Matrix& from, const Matrix& to, Into into) {
    for (int64_t row = 0; row < from.rows; ++row) {
      const From* in = from.Row<From>(row);
      To* out = to.Row<To>(row);
      if (into == Into::kReplace) {
        for (int64_t i = 0; i < from.columns; ++i) FromFloat(ToFloat(in[i]), &out[i]);
      } else {
        for (int64_t i = 0; i < from.columns; ++i) FromFloat(ToFloat(in[i]) + ToFloat(out[i]), &out[i]);
      }
    }
  }

  template <typename Piece>
  static void InPieces(const Matrix& out, int64_t width, const Piece& piece) {
    const int64_t down = (out.rows + kPieceRows - 1) / kPieceRows;
    const int64_t across = (out.columns + width - 1) / width;
    const OneThread alone;
    const auto at = [&](int64_t i) {  // down each column first: its part of b is read again while it is near
      const int64_t row = i % down * kPieceRows;
      const int64_t column = i / down * width;
      piece(
          row, column,
          out.Part(row, column, std::min(kPieceRows, out.rows - row), std::min(width, out.columns - column)));
    };
    if (down * across == 1) return at(0);
#pragma omp parallel for schedule(dynamic, 1) num_threads(alone.before())
    for (int64_t i = 0; i < down * across; ++i) at(i);
  }

  void Execute(const Matrix& a, Transpose ta, const memory& b, const Matrix& out, Into into) {
    const memory::desc left = DescOf(a, ta);
    const memory::desc result = DescOf(out, Transpose::kNo);
    const Kernel kernel = KernelOf(left, b.get_desc(), result, into);
    // A stream of the calling thread: oneDNN's are not to be shared.
    thread_local dnnl::stream stream(Processor());
    const memory first(left, Processor(), a.data);
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

}  // namespace headrace::nn
