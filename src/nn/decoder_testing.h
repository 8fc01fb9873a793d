// decoder_testing: small models of each architecture with random weights, and the same models in float64.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "nn/decoder.h"
#include "nn/nn_testing.h"

namespace headrace::nn {

using Numbers = std::vector<double>;

// What the layers of an architecture have beside Llama's weights.
struct Parts {
  bool biases = false;
  bool head_norms = false;
  bool post_norms = false;
};

struct Architecture {
  std::string name;
  DecoderShape shape;
  Parts parts = {};
};

inline void PrintTo(const Architecture& architecture, std::ostream* out) { *out << architecture.name; }

inline Architecture Llama() {
  DecoderShape shape;
  shape.block = {.width = 16, .heads = 4, .key_heads = 2, .head_size = 6, .hidden = 20};
  shape.layers = 2;
  shape.vocabulary = 30;
  shape.context = 256;
  return {"Llama", shape};
}

inline Architecture Qwen25() {
  Architecture made = Llama();
  made.name = "Qwen25";
  made.shape.block = {.width = 16,
                      .heads = 4,
                      .key_heads = 2,
                      .head_size = 4,
                      .hidden = 20,
                      .epsilon = 1e-6F,
                      .pairs = RopePairs::kHalves};
  made.shape.rope_base = 1000000;
  made.parts.biases = true;
  return made;
}

inline Architecture Qwen3() {
  Architecture made = Qwen25();
  made.name = "Qwen3";
  made.shape.block.heads = 2;
  made.shape.block.key_heads = 1;
  made.shape.block.head_size = 10;  // not width / heads
  made.parts = {.head_norms = true};
  return made;
}

// With the larger models' scaling: of positions by 8, and of scores by another number than the head's size.
// Bases are smaller than theirs: within a few rows, angles tell them apart.
inline Architecture Gemma3() {
  Architecture made = Qwen3();
  made.name = "Gemma3";
  made.shape.block.width = 24;
  made.shape.block.heads = 4;
  made.shape.block.key_heads = 1;
  made.shape.block.head_size = 6;
  made.shape.block.gate = Gate::kGelu;
  made.shape.block.score_scale = 0.2F;  // 1 / sqrt(25)
  made.shape.embedding_scale = std::sqrt(24.0F);
  made.shape.rope_factors = {8, 8, 8};
  made.shape.layers = 4;
  made.shape.kinds = FullEvery(3, 4);
  made.shape.window = 5;
  made.shape.rope_base = 300;
  made.shape.sliding_rope_base = 10;
  made.parts.post_norms = true;
  return made;
}

// Of the same architecture, with other numbers of everything.
inline Architecture Varied(Architecture made, uint64_t seed) {
  Draws draws(seed);
  const auto draw = [&](int64_t least, int64_t most) { return least + draws.Below(most - least + 1); };
  BlockShape& block = made.shape.block;
  block.key_heads = draw(1, 3);
  block.heads = block.key_heads * draw(1, 3);
  block.head_size = 2 * draw(2, 6);
  block.width = made.name == "Qwen25" ? block.heads * block.head_size : draw(8, 40);
  block.hidden = draw(1, 50);
  made.shape.layers = draw(1, 4);
  made.shape.vocabulary = draw(2, 60);
  if (made.shape.embedding_scale != 1)
    made.shape.embedding_scale = std::sqrt(static_cast<float>(block.width));
  if (!made.shape.rope_factors.empty())
    made.shape.rope_factors.assign(static_cast<size_t>(block.head_size / 2), 8);
  if (!made.shape.kinds.empty()) {
    made.shape.kinds = FullEvery(draw(1, 4), made.shape.layers);
    made.shape.window = draw(1, 9);
  }
  return made;
}

// Random frozen weights of `type`. The numbers are bfloat16's whatever the type is: models of both types are
// the same.
class RandomWeights : public WeightSource {
 public:
  RandomWeights(Architecture architecture, DType type, uint64_t seed)
      : architecture_(std::move(architecture)), type_(type), draws_(seed) {
    const BlockShape& block = architecture_.shape.block;
    const Parts& parts = architecture_.parts;
    const auto norm = [&](bool there, int64_t size) { return there ? Norm(size) : std::vector<float>(); };
    for (int64_t layer = 0; layer < architecture_.shape.layers; ++layer) {
      layers.push_back({.attention_norm = Norm(block.width),
                        .gated_norm = Norm(block.width),
                        .qkv = Weight(block.queries() + 2 * block.keys(), block.width),
                        .output = Weight(block.width, block.queries()),
                        .gate_up = Weight(2 * block.hidden, block.width),
                        .down = Weight(block.width, block.hidden),
                        .query_norm = norm(parts.head_norms, block.head_size),
                        .key_norm = norm(parts.head_norms, block.head_size),
                        .attention_post_norm = norm(parts.post_norms, block.width),
                        .gated_post_norm = norm(parts.post_norms, block.width)});
      if (parts.biases) layers.back().qkv_bias = Weight(block.queries() + 2 * block.keys(), 1);
    }
    embedding = Weight(architecture_.shape.vocabulary, block.width);
    head = Weight(architecture_.shape.vocabulary, block.width);
    for (float& value : head)
      value *= 4;  // of norms as they are, rows of length 1 could tell 30 tokens apart by little
    norm_ = Norm(block.width);
  }

  Result<BlockWeights> BlockOf(int64_t layer) override {
    const Layer& held = layers[static_cast<size_t>(layer)];
    const BlockShape& block = architecture_.shape.block;
    held_.clear();
    BlockWeights weights;
    weights.attention_norm = held.attention_norm;
    weights.qkv = Stored(held.qkv, block.width);
    weights.output = Stored(held.output, block.queries());
    weights.gated_norm = held.gated_norm;
    weights.gate_up = Stored(held.gate_up, block.width);
    weights.down = Stored(held.down, block.hidden);
    weights.qkv_bias = held.qkv_bias;
    weights.query_norm = held.query_norm;
    weights.key_norm = held.key_norm;
    weights.attention_post_norm = held.attention_post_norm;
    weights.gated_post_norm = held.gated_post_norm;
    return weights;
  }
  Result<std::vector<float>> FinalNorm() override { return norm_; }
  Result<Matrix> Head() override { return Stored(head, architecture_.shape.block.width); }
  void Embed(std::span<const int32_t> tokens, const Matrix& out) override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const float* from = &embedding[static_cast<size_t>(tokens[i] * out.columns)];
      for (int64_t column = 0; column < out.columns; ++column) {
        if (type_ == DType::kF32) {
          out.Row<float>(static_cast<int64_t>(i))[column] = from[column];
        } else {
          FromFloat(from[column], &out.Row<BF16>(static_cast<int64_t>(i))[column]);
        }
      }
    }
  }

  struct Layer {
    std::vector<float> attention_norm, gated_norm, qkv, output, gate_up, down;
    std::vector<float> qkv_bias, query_norm, key_norm, attention_post_norm, gated_post_norm;
  };
  std::vector<Layer> layers;
  std::vector<float> embedding, head;
  const std::vector<float>& norm() const { return norm_; }

 private:
  std::vector<float> Weight(int64_t rows, int64_t columns) {
    const float reach = std::sqrt(3.0F / static_cast<float>(columns));
    std::vector<float> values(static_cast<size_t>(rows * columns));
    for (float& value : values) value = Narrowed(draws_.Around(reach));
    return values;
  }
  std::vector<float> Norm(int64_t size) {
    std::vector<float> values(static_cast<size_t>(size));
    for (float& value : values) value = 1 + draws_.Around(0.5F);
    return values;
  }
  Matrix Stored(const std::vector<float>& values, int64_t columns) {
    const Matrix wide(const_cast<float*>(values.data()), DType::kF32,
                      static_cast<int64_t>(values.size()) / columns, columns, columns);
    if (type_ == DType::kF32) return wide;
    held_.emplace_back(values.size());
    for (size_t i = 0; i < values.size(); ++i) FromFloat(values[i], &held_.back()[i]);
    return Matrix::Of(held_.back().data(), wide.rows, columns);
  }

  Architecture architecture_;
  DType type_;
  Draws draws_;
  std::vector<float> norm_;
  std::list<std::vector<BF16>> held_;
};

inline Batch RandomBatch(const DecoderShape& shape, const std::vector<int64_t>& lengths, uint64_t seed) {
  Draws draws(seed);
  Batch batch;
  batch.starts = {0};
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) {
      batch.tokens.push_back(static_cast<int32_t>(draws.Below(shape.vocabulary)));
      const bool learned = draws.Below(3) != 0;
      const auto target = static_cast<int32_t>(draws.Below(shape.vocabulary));
      batch.targets.push_back(learned ? target : kNoTarget);
    }
    batch.starts.push_back(batch.starts.back() + length);
  }
  return batch;
}

// The same model, one document at a time, in float64 and as the papers have it. Its weights and its shape may
// be changed.
class Reference {
 public:
  Reference(DecoderShape shape, const RandomWeights& weights, const AdapterShape& adapters)
      : shape(std::move(shape)),
        layers(weights.layers),
        embedding_(weights.embedding),
        head_(weights.head),
        norm_(weights.norm()),
        adapters_(adapters) {}

  DecoderShape shape;
  std::vector<RandomWeights::Layer> layers;

  // Adapters by name, as the decoder has them.
  std::map<std::string, Numbers> adapters;

  double Loss(const Batch& batch) const {
    double sum = 0;
    for (size_t i = 0; i + 1 < batch.starts.size(); ++i)
      sum += DocumentLoss(batch, batch.starts[i], batch.starts[i + 1]);
    return sum;
  }

 private:
  static Numbers Product(const Numbers& x, int64_t rows, int64_t inputs, const float* weight,
                         int64_t outputs) {
    Numbers y(static_cast<size_t>(rows * outputs));
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t out = 0; out < outputs; ++out)
        for (int64_t in = 0; in < inputs; ++in)
          y[static_cast<size_t>(row * outputs + out)] +=
              x[static_cast<size_t>(row * inputs + in)] * weight[out * inputs + in];
    return y;
  }
  Numbers Adapted(const Numbers& x, int64_t rows, int64_t inputs, const float* weight, int64_t outputs,
                  const std::string& name) const {
    Numbers y = Product(x, rows, inputs, weight, outputs);
    const auto a = adapters.find(name + ".lora_a");
    if (a == adapters.end()) return y;
    const Numbers& b = adapters.at(name + ".lora_b");
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t r = 0; r < adapters_.rank; ++r) {
        double dot = 0;
        for (int64_t in = 0; in < inputs; ++in)
          dot += x[static_cast<size_t>(row * inputs + in)] * a->second[static_cast<size_t>(r * inputs + in)];
        for (int64_t out = 0; out < outputs; ++out)
          y[static_cast<size_t>(row * outputs + out)] +=
              adapters_.scale * dot * b[static_cast<size_t>(out * adapters_.rank + r)];
      }
    }
    return y;
  }
  Numbers Norm(const Numbers& x, const std::vector<float>& weight) const {
    Numbers y(x.size());
    const size_t width = weight.size();
    for (size_t row = 0; row < x.size(); row += width) {
      double squares = 0;
      for (size_t i = 0; i < width; ++i) squares += x[row + i] * x[row + i];
      for (size_t i = 0; i < width; ++i)
        y[row + i] =
            x[row + i] * weight[i] /
            std::sqrt(squares / static_cast<double>(width) + static_cast<double>(shape.block.epsilon));
    }
    return y;
  }
  bool Slides(int64_t layer) const {
    return !shape.kinds.empty() && shape.kinds[static_cast<size_t>(layer)] == LayerKind::kSliding;
  }
  void Turned(Numbers* x, int64_t rows, int64_t heads, bool slides) const {
    const int64_t size = shape.block.head_size;
    const bool adjacent = shape.block.pairs == RopePairs::kAdjacent;
    for (int64_t head = 0; head < rows * heads; ++head) {
      for (int64_t i = 0; i < size / 2; ++i) {
        const double base = slides ? shape.sliding_rope_base : shape.rope_base;
        double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(size));
        if (!slides && !shape.rope_factors.empty()) frequency /= shape.rope_factors[static_cast<size_t>(i)];
        const auto position = static_cast<int64_t>(head / heads);
        const double angle = static_cast<double>(position) * frequency;
        double& a = (*x)[static_cast<size_t>(head * size + (adjacent ? 2 * i : i))];
        double& b = (*x)[static_cast<size_t>(head * size + (adjacent ? 2 * i + 1 : i + size / 2))];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    }
  }
  Numbers Attend(const Numbers& q, const Numbers& k, const Numbers& v, int64_t rows, bool slides) const {
    const BlockShape& block = shape.block;
    const double usual = 1 / std::sqrt(static_cast<double>(block.head_size));
    const double scale = block.score_scale == 0 ? usual : block.score_scale;
    const int64_t size = block.head_size;
    Numbers out(q.size());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t head = 0; head < block.heads; ++head) {
        const int64_t shared = head / (block.heads / block.key_heads);
        const int64_t first = slides ? std::max<int64_t>(0, row - shape.window + 1) : 0;
        Numbers weights;
        double sum = 0;
        for (int64_t key = first; key <= row; ++key) {
          double dot = 0;
          for (int64_t i = 0; i < size; ++i)
            dot += q[static_cast<size_t>((row * block.heads + head) * size + i)] *
                   k[static_cast<size_t>((key * block.key_heads + shared) * size + i)];
          weights.push_back(std::exp(dot * scale));
          sum += weights.back();
        }
        for (int64_t key = first; key <= row; ++key)
          for (int64_t i = 0; i < size; ++i)
            out[static_cast<size_t>((row * block.heads + head) * size + i)] +=
                weights[static_cast<size_t>(key - first)] / sum *
                v[static_cast<size_t>((key * block.key_heads + shared) * size + i)];
      }
    }
    return out;
  }
  static double Act(Gate gate, double z) {
    if (gate == Gate::kSilu) return z / (1 + std::exp(-z));
    return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
  }
  // x += out, with a norm before that where there is one.
  void Add(const Numbers& out, const std::vector<float>& post_norm, Numbers* x) const {
    const Numbers added = post_norm.empty() ? out : Norm(out, post_norm);
    for (size_t i = 0; i < x->size(); ++i) (*x)[i] += added[i];
  }
  void Layer(int64_t layer, int64_t rows, Numbers* x) const {
    const BlockShape& block = shape.block;
    const RandomWeights::Layer& held = layers[static_cast<size_t>(layer)];
    const std::string name = "blk." + std::to_string(layer) + ".";
    const bool slides = Slides(layer);
    const Numbers normed = Norm(*x, held.attention_norm);
    const auto projected = [&](int64_t first, int64_t outputs, const char* part) {
      Numbers y =
          Adapted(normed, rows, block.width, held.qkv.data() + first * block.width, outputs, name + part);
      for (size_t i = 0; !held.qkv_bias.empty() && i < y.size(); ++i)
        y[i] += held.qkv_bias[static_cast<size_t>(first) + i % static_cast<size_t>(outputs)];
      return y;
    };
    Numbers q = projected(0, block.queries(), "attn_q");
    Numbers k = projected(block.queries(), block.keys(), "attn_k");
    const Numbers v = projected(block.queries() + block.keys(), block.keys(), "attn_v");
    if (!held.query_norm.empty()) q = Norm(q, held.query_norm);
    if (!held.key_norm.empty()) k = Norm(k, held.key_norm);
    Turned(&q, rows, block.heads, slides);
    Turned(&k, rows, block.key_heads, slides);
    Add(Adapted(Attend(q, k, v, rows, slides), rows, block.queries(), held.output.data(), block.width,
                name + "attn_output"),
        held.attention_post_norm, x);
    const Numbers again = Norm(*x, held.gated_norm);
    Numbers gate = Adapted(again, rows, block.width, held.gate_up.data(), block.hidden, name + "ffn_gate");
    const Numbers up = Adapted(again, rows, block.width, held.gate_up.data() + block.hidden * block.width,
                               block.hidden, name + "ffn_up");
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = Act(block.gate, gate[i]) * up[i];
    Add(Adapted(gate, rows, block.hidden, held.down.data(), block.width, name + "ffn_down"),
        held.gated_post_norm, x);
  }
  double DocumentLoss(const Batch& batch, int64_t begin, int64_t end) const {
    const int64_t rows = end - begin;
    const int64_t width = shape.block.width;
    Numbers x;
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < width; ++i)
        x.push_back(shape.embedding_scale *
                    static_cast<double>(
                        embedding_[static_cast<size_t>(batch.tokens[static_cast<size_t>(row)] * width + i)]));
    for (int64_t layer = 0; layer < shape.layers; ++layer) Layer(layer, rows, &x);
    const Numbers logits = Product(Norm(x, norm_), rows, width, head_.data(), shape.vocabulary);
    double loss = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t target = batch.targets[static_cast<size_t>(begin + row)];
      if (target == kNoTarget) continue;
      const double* z = &logits[static_cast<size_t>(row * shape.vocabulary)];
      double sum = 0;
      for (int64_t i = 0; i < shape.vocabulary; ++i) sum += std::exp(z[i]);
      loss += std::log(sum) - z[target];
    }
    return loss;
  }

  std::vector<float> embedding_, head_, norm_;
  AdapterShape adapters_;
};

// A decoder, and the reference with the same weights and the same adapters, all of them drawn at random.
struct Pair {
  Pair(const Architecture& architecture, const AdapterShape& adapters, DType type = DType::kF32)
      : shape(architecture.shape),
        matmul(OneDnnMatmul()),
        weights(std::make_shared<RandomWeights>(architecture, type, 21)),
        decoder(std::move(Decoder::Create(matmul.get(), shape, type, adapters, 5, weights)).value()),
        reference(shape, *weights, adapters) {
    Draws draws(22);
    for (Parameter* parameter : decoder->parameters()) {
      for (float& value : parameter->values) value = Narrowed(draws.Around(0.25F));
      reference.adapters[parameter->name] = Numbers(parameter->values.begin(), parameter->values.end());
    }
    decoder->Refresh();
  }
  DecoderShape shape;
  std::unique_ptr<Matmul> matmul;
  std::shared_ptr<RandomWeights> weights;
  std::unique_ptr<Decoder> decoder;
  Reference reference;
};

}  // namespace headrace::nn
