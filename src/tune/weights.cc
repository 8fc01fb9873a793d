#include "tune/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace headrace::tune {
namespace {

using model::TensorFacts;
using model::TensorFile;
using nn::BF16;
using nn::DType;
using nn::Matrix;

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text;
}

// A file's head, by the architecture's names, with errors that say which one is missing.
class Head {
 public:
  Head(const TensorFile& file, std::string architecture)
      : file_(file), architecture_(std::move(architecture)) {}

  double Or(const std::string& name, double otherwise) const {
    return file_.Number(architecture_ + "." + name).value_or(otherwise);
  }
  Result<int64_t> Count(const std::string& name) const {
    const double value = Or(name, -1);
    constexpr double kMost = 1 << 30;
    if (!(value >= 1 && value <= kMost) || value != static_cast<double>(static_cast<int64_t>(value)))
      return Status::Corrupt(file_.path() + ": " + architecture_ + "." + name + " is " +
                             (value == -1 ? "missing" : std::to_string(value)));
    return static_cast<int64_t>(value);
  }
  // Settings of which the trainer knows one value: any other would make another model.
  Status Want(const std::string& name, double value) const {
    const double found = Or(name, value);
    if (found == value) return Status::Ok();
    return Status::Unsupported(file_.path() + ": " + architecture_ + "." + name + " is " +
                               std::to_string(found) + ", and the trainer computes only " +
                               std::to_string(value));
  }

 private:
  const TensorFile& file_;
  std::string architecture_;
};

// What an architecture's layers have beside Llama's.
struct LayerParts {
  bool biases = false;      // of queries, keys and values
  bool head_norms = false;  // of queries and keys
  bool post_norms = false;  // of what a layer's halves add
};

// Weights are turned into the type of activations when they are asked for. What a call returns is overwritten
// by the next.
template <typename T>
class GgufWeights : public nn::WeightSource {
 public:
  GgufWeights(std::shared_ptr<const TensorFile> file, const nn::DecoderShape& shape, LayerParts parts)
      : file_(std::move(file)), shape_(shape), parts_(parts) {}

  // Whether every tensor is there, with its shape, and none besides.
  Status Check() const {
    std::set<std::string> known = {"token_embd.weight", "output_norm.weight", "output.weight",
                                   "rope_freqs.weight"};
    const nn::BlockShape& b = shape_.block;
    HEADRACE_TRY(Want("token_embd.weight", {shape_.vocabulary, b.width}));
    HEADRACE_TRY(Want("output_norm.weight", {b.width}));
    if (file_->Find("output.weight") != nullptr)
      HEADRACE_TRY(Want("output.weight", {shape_.vocabulary, b.width}));
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      const std::string at = Prefix(layer);
      std::vector<std::pair<std::string, std::vector<int64_t>>> wanted = {
          {"attn_norm.weight", {b.width}},
          {"attn_q.weight", {b.queries(), b.width}},
          {"attn_k.weight", {b.keys(), b.width}},
          {"attn_v.weight", {b.keys(), b.width}},
          {"attn_output.weight", {b.width, b.queries()}},
          {"ffn_norm.weight", {b.width}},
          {"ffn_gate.weight", {b.hidden, b.width}},
          {"ffn_up.weight", {b.hidden, b.width}},
          {"ffn_down.weight", {b.width, b.hidden}},
      };
      if (parts_.biases)
        wanted.insert(
            wanted.end(),
            {{"attn_q.bias", {b.queries()}}, {"attn_k.bias", {b.keys()}}, {"attn_v.bias", {b.keys()}}});
      if (parts_.head_norms)
        wanted.insert(wanted.end(),
                      {{"attn_q_norm.weight", {b.head_size}}, {"attn_k_norm.weight", {b.head_size}}});
      if (parts_.post_norms)
        wanted.insert(wanted.end(),
                      {{"post_attention_norm.weight", {b.width}}, {"post_ffw_norm.weight", {b.width}}});
      for (const auto& [name, extents] : wanted) {
        HEADRACE_TRY(Want(at + name, extents));
        known.insert(at + name);
      }
    }
    for (const TensorFacts& tensor : file_->tensors())
      if (known.count(tensor.name) == 0)
        return Status::Unsupported(file_->path() + ": the trainer does not know what to do with the tensor " +
                                   tensor.name);
    return Status::Ok();
  }

  Result<nn::BlockWeights> BlockOf(int64_t layer) override {
    const std::string at = Prefix(layer);
    nn::BlockWeights weights;
    HEADRACE_ASSIGN(weights.attention_norm, Vector(at + "attn_norm.weight"));
    HEADRACE_ASSIGN(weights.gated_norm, Vector(at + "ffn_norm.weight"));
    HEADRACE_ASSIGN(weights.qkv,
                    Stack({at + "attn_q.weight", at + "attn_k.weight", at + "attn_v.weight"}, &held_[0]));
    HEADRACE_ASSIGN(weights.output, Stack({at + "attn_output.weight"}, &held_[1]));
    HEADRACE_ASSIGN(weights.gate_up, Stack({at + "ffn_gate.weight", at + "ffn_up.weight"}, &held_[2]));
    HEADRACE_ASSIGN(weights.down, Stack({at + "ffn_down.weight"}, &held_[3]));
    if (parts_.biases) {
      for (const char* name : {"attn_q.bias", "attn_k.bias", "attn_v.bias"}) {
        HEADRACE_ASSIGN(const std::vector<float> bias, Vector(at + name));
        weights.qkv_bias.insert(weights.qkv_bias.end(), bias.begin(), bias.end());
      }
    }
    if (parts_.head_norms) {
      HEADRACE_ASSIGN(weights.query_norm, Vector(at + "attn_q_norm.weight"));
      HEADRACE_ASSIGN(weights.key_norm, Vector(at + "attn_k_norm.weight"));
    }
    if (parts_.post_norms) {
      HEADRACE_ASSIGN(weights.attention_post_norm, Vector(at + "post_attention_norm.weight"));
      HEADRACE_ASSIGN(weights.gated_post_norm, Vector(at + "post_ffw_norm.weight"));
    }
    return weights;
  }

  Result<std::vector<float>> FinalNorm() override { return Vector("output_norm.weight"); }

  Result<Matrix> Head() override {
    const bool own = file_->Find("output.weight") != nullptr;
    return Stack({own ? "output.weight" : "token_embd.weight"}, &held_[0]);
  }

  // A tensor that was there when the file was opened stays there: it is mapped.
  void Embed(std::span<const int32_t> tokens, const Matrix& out) override {
    const TensorFacts* table = file_->Find("token_embd.weight");
    std::vector<float> row(static_cast<size_t>(table->columns()));
    for (size_t i = 0; i < tokens.size(); ++i) {
      HEADRACE_CHECK(file_->Read(*table, tokens[i], 1, row.data()).ok());
      T* to = out.Row<T>(static_cast<int64_t>(i));
      for (size_t c = 0; c < row.size(); ++c) nn::FromFloat(row[c], &to[c]);
    }
  }

 private:
  static std::string Prefix(int64_t layer) { return "blk." + std::to_string(layer) + "."; }

  Status Want(const std::string& name, const std::vector<int64_t>& shape) const {
    const TensorFacts* tensor = file_->Find(name);
    if (tensor == nullptr) return Status::Corrupt(file_->path() + " has no tensor " + name);
    if (tensor->shape == shape) return Status::Ok();
    return Status::Corrupt(file_->path() + ": " + name + " is " + ShapeText(tensor->shape) + ", not " +
                           ShapeText(shape));
  }

  Result<std::vector<float>> Vector(const std::string& name) const {
    const TensorFacts* tensor = file_->Find(name);
    std::vector<float> values(static_cast<size_t>(tensor->columns()));
    HEADRACE_TRY(file_->Read(*tensor, 0, 1, values.data()));
    return values;
  }

  // Matrices of equal width, one below the other.
  Result<Matrix> Stack(const std::vector<std::string>& names, std::vector<T>* held) const {
    constexpr int64_t kRows = 256;  // turned at once
    int64_t rows = 0;
    int64_t columns = 0;
    for (const std::string& name : names) {
      rows += file_->Find(name)->rows();
      columns = file_->Find(name)->columns();
    }
    held->resize(static_cast<size_t>(rows * columns));
    std::vector<float> some(static_cast<size_t>(kRows * columns));
    T* to = held->data();
    for (const std::string& name : names) {
      const TensorFacts* tensor = file_->Find(name);
      for (int64_t row = 0; row < tensor->rows(); row += kRows) {
        const int64_t count = std::min(kRows, tensor->rows() - row);
        HEADRACE_TRY(file_->Read(*tensor, row, count, some.data()));
        for (int64_t i = 0; i < count * columns; ++i) nn::FromFloat(some[static_cast<size_t>(i)], to++);
      }
    }
    return Matrix::Of(held->data(), rows, columns);
  }

  std::shared_ptr<const TensorFile> file_;
  nn::DecoderShape shape_;
  LayerParts parts_;
  std::array<std::vector<T>, 4> held_;
};

// What all architectures have in common.
Result<nn::DecoderShape> CommonShape(const TensorFile& file, const Head& head) {
  nn::DecoderShape shape;
  nn::BlockShape& b = shape.block;
  HEADRACE_ASSIGN(b.width, head.Count("embedding_length"));
  HEADRACE_ASSIGN(b.heads, head.Count("attention.head_count"));
  b.key_heads = static_cast<int64_t>(head.Or("attention.head_count_kv", static_cast<double>(b.heads)));
  const int64_t usual = b.width / b.heads;
  b.head_size = static_cast<int64_t>(head.Or("attention.key_length", static_cast<double>(usual)));
  HEADRACE_ASSIGN(b.hidden, head.Count("feed_forward_length"));
  HEADRACE_ASSIGN(shape.layers, head.Count("block_count"));
  HEADRACE_ASSIGN(shape.context, head.Count("context_length"));
  if (b.key_heads < 1 || b.heads % b.key_heads != 0 || b.head_size < 2 || b.head_size % 2 != 0)
    return Status::Corrupt(file.path() + ": " + std::to_string(b.heads) + " heads of " +
                           std::to_string(b.head_size) + " do not go with " + std::to_string(b.key_heads) +
                           " of keys");
  b.epsilon = static_cast<float>(head.Or("attention.layer_norm_rms_epsilon", 1e-5));
  shape.rope_base = head.Or("rope.freq_base", 10000);
  HEADRACE_TRY(head.Want("attention.value_length", static_cast<double>(b.head_size)));
  HEADRACE_TRY(head.Want("rope.dimension_count", static_cast<double>(b.head_size)));
  HEADRACE_TRY(head.Want("expert_count", 0));
  HEADRACE_TRY(head.Want("final_logit_softcapping", 0));
  HEADRACE_TRY(head.Want("attn_logit_softcapping", 0));
  HEADRACE_TRY(head.Want("attention.scale", 0));
  const TensorFacts* embedding = file.Find("token_embd.weight");
  if (embedding == nullptr) return Status::Corrupt(file.path() + " has no tensor token_embd.weight");
  shape.vocabulary = embedding->rows();
  if (const TensorFacts* factors = file.Find("rope_freqs.weight"); factors != nullptr) {
    if (factors->columns() * factors->rows() != b.head_size / 2)
      return Status::Corrupt(file.path() + ": rope_freqs.weight is " + ShapeText(factors->shape));
    shape.rope_factors.resize(static_cast<size_t>(b.head_size / 2));
    HEADRACE_TRY(file.Read(*factors, 0, factors->rows(), shape.rope_factors.data()));
  }
  return shape;
}

struct Architecture {
  nn::DecoderShape shape;
  LayerParts parts;
};

// Llama, and what was built like it: SmolLM2, Mistral. Qwen2.5 and Qwen3.
Result<Architecture> Plain(const TensorFile& file, const Head& head, const std::string& name) {
  Architecture found;
  HEADRACE_ASSIGN(found.shape, CommonShape(file, head));
  HEADRACE_TRY(head.Want("rope.scaling.factor", 1));
  HEADRACE_TRY(head.Want("attention.sliding_window", 0));
  // Llama's converter puts the halves of a pair beside each other.
  found.shape.block.pairs = name == "llama" ? nn::RopePairs::kAdjacent : nn::RopePairs::kHalves;
  found.parts.biases = name == "qwen2";
  found.parts.head_norms = name == "qwen3";
  return found;
}

// (Gemma Team 2025, Gemma 3 Technical Report.) The norms of its files have the 1 that is added to them.
Result<Architecture> Gemma3(const TensorFile& file, const Head& head) {
  constexpr int64_t kPeriod = 6;        // five layers with a window, then one without
  constexpr int64_t kLayersOf27B = 62;  // whose scores are scaled otherwise
  Architecture found;
  HEADRACE_ASSIGN(found.shape, CommonShape(file, head));
  nn::DecoderShape& shape = found.shape;
  if (shape.layers == kLayersOf27B)
    return Status::Unsupported(file.path() + ": the trainer does not know how Gemma 3 27B scales its scores");
  const double scaling = head.Or("rope.scaling.factor", 1);
  if (scaling != 1)  // of the positions of full layers: as if every frequency were divided
    shape.rope_factors.assign(static_cast<size_t>(shape.block.head_size / 2), static_cast<float>(scaling));
  shape.block.pairs = nn::RopePairs::kHalves;
  shape.block.gate = nn::Gate::kGelu;
  shape.embedding_scale = std::sqrt(static_cast<float>(shape.block.width));
  shape.kinds = nn::FullEvery(kPeriod, shape.layers);
  HEADRACE_ASSIGN(shape.window, head.Count("attention.sliding_window"));
  shape.sliding_rope_base = head.Or("rope.freq_base_swa", 10000);
  found.parts = {.head_norms = true, .post_norms = true};
  return found;
}

template <typename T>
Result<OpenedWeights> Opened(std::shared_ptr<const TensorFile> file, const Architecture& found,
                             const std::string& name) {
  auto source = std::make_shared<GgufWeights<T>>(std::move(file), found.shape, found.parts);
  HEADRACE_TRY(source->Check());
  return OpenedWeights{found.shape, std::move(source), name};
}

}  // namespace

Result<OpenedWeights> OpenWeights(std::shared_ptr<const TensorFile> file, DType type) {
  const std::string name = file->Text("general.architecture").value_or("");
  const Head head(*file, name);
  Architecture found;
  if (name == "llama" || name == "qwen2" || name == "qwen3") {
    HEADRACE_ASSIGN(found, Plain(*file, head, name));
  } else if (name == "gemma3") {
    HEADRACE_ASSIGN(found, Gemma3(*file, head));
  } else {
    return Status::Unsupported(
        file->path() + " is of the architecture '" + name +
        "'; the trainer knows llama (Llama, SmolLM2, Mistral), qwen2, qwen3 and gemma3");
  }
  return type == DType::kF32 ? Opened<float>(std::move(file), found, name)
                             : Opened<BF16>(std::move(file), found, name);
}

}  // namespace headrace::tune
