#include "nn/decoder.h"

#include <map>

#include <gtest/gtest.h>

#include "nn/nn_testing.h"
#include "nn/optimizer.h"
#include "nn/threads.h"

namespace headrace::nn {
namespace {

using Numbers = std::vector<double>;

// Random frozen weights in float32.
class RandomWeights : public WeightSource {
 public:
  RandomWeights(const DecoderShape& shape, uint32_t seed) : shape_(shape), random_(seed) {
    const BlockShape& block = shape.block;
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      layers.push_back({Norm(), Norm(), Weight(block.queries() + 2 * block.keys(), block.width),
                        Weight(block.width, block.queries()), Weight(2 * block.hidden, block.width),
                        Weight(block.width, block.hidden)});
    }
    embedding = Weight(shape.vocabulary, block.width);
    head = Weight(shape.vocabulary, block.width);
    for (float& value : head)
      value *= 4;  // of norms as they are, rows of length 1 could tell 30 tokens apart by little
    norm = Norm();
  }

  Result<BlockWeights> BlockOf(int64_t layer) override {
    Layer& held = layers[static_cast<size_t>(layer)];
    const BlockShape& block = shape_.block;
    return BlockWeights{held.attention_norm,
                        Matrix::Of(held.qkv.data(), block.queries() + 2 * block.keys(), block.width),
                        Matrix::Of(held.output.data(), block.width, block.queries()),
                        held.gated_norm,
                        Matrix::Of(held.gate_up.data(), 2 * block.hidden, block.width),
                        Matrix::Of(held.down.data(), block.width, block.hidden)};
  }
  Result<std::vector<float>> FinalNorm() override { return norm; }
  Result<Matrix> Head() override { return Matrix::Of(head.data(), shape_.vocabulary, shape_.block.width); }
  void Embed(std::span<const int32_t> tokens, const Matrix& out) override {
    for (size_t i = 0; i < tokens.size(); ++i)
      std::copy_n(&embedding[static_cast<size_t>(tokens[i] * shape_.block.width)], shape_.block.width,
                  out.Row<float>(static_cast<int64_t>(i)));
  }

  struct Layer {
    std::vector<float> attention_norm, gated_norm, qkv, output, gate_up, down;
  };
  std::vector<Layer> layers;
  std::vector<float> embedding, head, norm;

 private:
  std::vector<float> Weight(int64_t rows, int64_t columns) {
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(columns)));
    std::vector<float> values(static_cast<size_t>(rows * columns));
    for (float& value : values) value = normal(random_);
    return values;
  }
  std::vector<float> Norm() {
    std::uniform_real_distribution<float> uniform(0.5F, 1.5F);
    std::vector<float> values(static_cast<size_t>(shape_.block.width));
    for (float& value : values) value = uniform(random_);
    return values;
  }

  DecoderShape shape_;
  std::mt19937 random_;
};

DecoderShape Small() {
  DecoderShape shape;
  shape.block = {.width = 16, .heads = 4, .key_heads = 2, .head_size = 6, .hidden = 20};
  shape.layers = 2;
  shape.vocabulary = 30;
  shape.context = 64;
  return shape;
}

Batch RandomBatch(const DecoderShape& shape, const std::vector<int64_t>& lengths, uint32_t seed) {
  std::mt19937 random(seed);
  Batch batch;
  batch.starts = {0};
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) {
      batch.tokens.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(shape.vocabulary)));
      const bool learned = random() % 3 != 0;
      batch.targets.push_back(
          learned ? static_cast<int32_t>(random() % static_cast<uint32_t>(shape.vocabulary)) : kNoTarget);
    }
    batch.starts.push_back(batch.starts.back() + length);
  }
  return batch;
}

// The same model, one document at a time, in float64 and as the papers have it.
class Reference {
 public:
  Reference(DecoderShape shape, const RandomWeights& weights, const AdapterShape& adapters)
      : shape_(std::move(shape)), weights_(weights), adapters_(adapters) {}

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
            std::sqrt(squares / static_cast<double>(width) + static_cast<double>(shape_.block.epsilon));
    }
    return y;
  }
  void Turned(Numbers* x, int64_t rows, int64_t heads) const {
    const int64_t size = shape_.block.head_size;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t pair = 0; pair < heads * size / 2; ++pair) {
        const double angle = static_cast<double>(row) *
                             std::pow(shape_.rope_base, -2.0 * static_cast<double>(pair % (size / 2)) /
                                                            static_cast<double>(size));
        double& a = (*x)[static_cast<size_t>(row * heads * size + 2 * pair)];
        double& b = (*x)[static_cast<size_t>(row * heads * size + 2 * pair + 1)];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = a * std::sin(angle) + b * std::cos(angle);
        a = turned;
      }
    }
  }
  Numbers Attend(const Numbers& q, const Numbers& k, const Numbers& v, int64_t rows) const {
    const BlockShape& block = shape_.block;
    const int64_t size = block.head_size;
    Numbers out(q.size());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t head = 0; head < block.heads; ++head) {
        const int64_t shared = head / (block.heads / block.key_heads);
        Numbers weights;
        double sum = 0;
        for (int64_t key = 0; key <= row; ++key) {
          double dot = 0;
          for (int64_t i = 0; i < size; ++i)
            dot += q[static_cast<size_t>((row * block.heads + head) * size + i)] *
                   k[static_cast<size_t>((key * block.key_heads + shared) * size + i)];
          weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(size))));
          sum += weights.back();
        }
        for (int64_t key = 0; key <= row; ++key)
          for (int64_t i = 0; i < size; ++i)
            out[static_cast<size_t>((row * block.heads + head) * size + i)] +=
                weights[static_cast<size_t>(key)] / sum *
                v[static_cast<size_t>((key * block.key_heads + shared) * size + i)];
      }
    }
    return out;
  }
  void Layer(int64_t layer, int64_t rows, Numbers* x) const {
    const BlockShape& block = shape_.block;
    const RandomWeights::Layer& held = weights_.layers[static_cast<size_t>(layer)];
    const std::string name = "blk." + std::to_string(layer) + ".";
    const Numbers normed = Norm(*x, held.attention_norm);
    const float* qkv = held.qkv.data();
    Numbers q = Adapted(normed, rows, block.width, qkv, block.queries(), name + "attn_q");
    Numbers k = Adapted(normed, rows, block.width, qkv + block.queries() * block.width, block.keys(),
                        name + "attn_k");
    const Numbers v = Adapted(normed, rows, block.width, qkv + (block.queries() + block.keys()) * block.width,
                              block.keys(), name + "attn_v");
    Turned(&q, rows, block.heads);
    Turned(&k, rows, block.key_heads);
    const Numbers out = Adapted(Attend(q, k, v, rows), rows, block.queries(), held.output.data(), block.width,
                                name + "attn_output");
    for (size_t i = 0; i < x->size(); ++i) (*x)[i] += out[i];
    const Numbers again = Norm(*x, held.gated_norm);
    Numbers gate = Adapted(again, rows, block.width, held.gate_up.data(), block.hidden, name + "ffn_gate");
    const Numbers up = Adapted(again, rows, block.width, held.gate_up.data() + block.hidden * block.width,
                               block.hidden, name + "ffn_up");
    for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
    const Numbers down = Adapted(gate, rows, block.hidden, held.down.data(), block.width, name + "ffn_down");
    for (size_t i = 0; i < x->size(); ++i) (*x)[i] += down[i];
  }
  double DocumentLoss(const Batch& batch, int64_t begin, int64_t end) const {
    const int64_t rows = end - begin;
    const int64_t width = shape_.block.width;
    Numbers x;
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < width; ++i)
        x.push_back(
            weights_.embedding[static_cast<size_t>(batch.tokens[static_cast<size_t>(row)] * width + i)]);
    for (int64_t layer = 0; layer < shape_.layers; ++layer) Layer(layer, rows, &x);
    const Numbers logits =
        Product(Norm(x, weights_.norm), rows, width, weights_.head.data(), shape_.vocabulary);
    double loss = 0;
    for (int64_t row = 0; row < rows; ++row) {
      const int32_t target = batch.targets[static_cast<size_t>(begin + row)];
      if (target == kNoTarget) continue;
      const double* z = &logits[static_cast<size_t>(row * shape_.vocabulary)];
      double sum = 0;
      for (int64_t i = 0; i < shape_.vocabulary; ++i) sum += std::exp(z[i]);
      loss += std::log(sum) - z[target];
    }
    return loss;
  }

  DecoderShape shape_;
  const RandomWeights& weights_;
  AdapterShape adapters_;
};

// A decoder, and the reference with the same weights and the same adapters, all of them drawn at random.
struct Pair {
  explicit Pair(const AdapterShape& adapters)
      : shape(Small()),
        matmul(OneDnnMatmul()),
        weights(std::make_shared<RandomWeights>(shape, 21)),
        decoder(std::move(Decoder::Create(matmul.get(), shape, DType::kF32, adapters, 5, weights)).value()),
        reference(shape, *weights, adapters) {
    std::mt19937 random(22);
    std::normal_distribution<float> normal(0, 0.3F);
    for (Parameter* parameter : decoder->parameters()) {
      for (float& value : parameter->values) value = normal(random);
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

// Terms of a gradient cancel each other: rounding goes by what the greatest are.
float Greatest(const std::vector<float>& values) {
  float greatest = 0;
  for (const float value : values) greatest = std::max(greatest, std::abs(value));
  return greatest;
}

constexpr AdapterShape kAdapters = {.rank = 3, .scale = 2};

TEST(DecoderTest, LossAndGradientsAreTheReferences) {
  Pair pair(kAdapters);
  const Batch batch = RandomBatch(pair.shape, {7, 1, 12, 30}, 23);
  const float scale = 0.25F;
  const BatchLoss loss = pair.decoder->Step(batch, scale);
  const double expected = pair.reference.Loss(batch);
  EXPECT_NEAR(loss.sum, expected, 1e-5 * expected);
  EXPECT_EQ(pair.decoder->Evaluate(batch).sum, loss.sum);
  std::mt19937 random(24);
  size_t looked_at = 0;
  for (const Parameter* parameter : pair.decoder->parameters()) {
    for (int sample = 0; sample < 3; ++sample) {
      const size_t i = random() % parameter->values.size();
      Numbers& held = pair.reference.adapters[parameter->name];
      const double slope = scale * Slope(held, i, [&](const Numbers& at) {
                             Numbers before = at;
                             std::swap(before, held);
                             const double value = pair.reference.Loss(batch);
                             std::swap(before, held);
                             return value;
                           });
      ASSERT_NEAR(parameter->gradient[i], slope,
                  4096 * Rounding<float>() * (Greatest(parameter->gradient) + 1))
          << parameter->name << " " << i;
      ++looked_at;
    }
  }
  EXPECT_EQ(looked_at, 3U * 2 * 7 * 2);  // values, A and B, weights, layers
}

TEST(DecoderTest, AnUntrainedAdapterChangesNothing) {
  const DecoderShape shape = Small();
  const auto matmul = OneDnnMatmul();
  const auto weights = std::make_shared<RandomWeights>(shape, 31);
  const Batch batch = RandomBatch(shape, {9, 4}, 32);
  const auto with = Decoder::Create(matmul.get(), shape, DType::kF32, kAdapters, 1, weights);
  const auto without = Decoder::Create(matmul.get(), shape, DType::kF32, {}, 1, weights);
  EXPECT_EQ((*with)->Evaluate(batch).sum, (*without)->Evaluate(batch).sum);
  EXPECT_TRUE((*without)->parameters().empty());
}

TEST(DecoderTest, PackedAndAccumulatedAreTheSame) {
  Pair packed(kAdapters);
  Pair apart(kAdapters);
  const Batch batch = RandomBatch(packed.shape, {5, 20, 3, 11}, 33);
  const BatchLoss together = packed.decoder->Step(batch, 1);
  BatchLoss summed;
  for (size_t i = 0; i + 1 < batch.starts.size(); ++i) {
    const auto from = static_cast<std::ptrdiff_t>(batch.starts[i]);
    const auto to = static_cast<std::ptrdiff_t>(batch.starts[i + 1]);
    Batch one;
    one.tokens.assign(batch.tokens.begin() + from, batch.tokens.begin() + to);
    one.targets.assign(batch.targets.begin() + from, batch.targets.begin() + to);
    one.starts = {0, to - from};
    const BatchLoss loss = apart.decoder->Step(one, 1);
    summed.sum += loss.sum;
    summed.rows += loss.rows;
  }
  EXPECT_EQ(together.rows, summed.rows);
  EXPECT_NEAR(together.sum, summed.sum, 1e-6 * summed.sum);
  for (size_t p = 0; p < packed.decoder->parameters().size(); ++p) {
    const Parameter& a = *packed.decoder->parameters()[p];
    const Parameter& b = *apart.decoder->parameters()[p];
    for (size_t i = 0; i < a.gradient.size(); ++i)
      ASSERT_NEAR(a.gradient[i], b.gradient[i], 1024 * Rounding<float>() * (Greatest(b.gradient) + 1))
          << a.name;
  }
}

TEST(DecoderTest, WhatIsNotLearnedFromHasNoPart) {
  Pair pair(kAdapters);
  Batch batch = RandomBatch(pair.shape, {10, 10}, 34);
  for (size_t i = 10; i < 20; ++i) batch.targets[i] = kNoTarget;  // nothing of the second document
  Pair other(kAdapters);
  Batch changed = batch;
  for (size_t i = 10; i < 20; ++i) changed.tokens[i] = 3;
  EXPECT_EQ(pair.decoder->Step(batch, 1).sum, other.decoder->Step(changed, 1).sum);
  for (size_t p = 0; p < pair.decoder->parameters().size(); ++p) {
    const auto& a = pair.decoder->parameters()[p]->gradient;
    const auto& b = other.decoder->parameters()[p]->gradient;
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-6);
  }
  for (int32_t& target : batch.targets) target = kNoTarget;
  EXPECT_EQ(pair.decoder->Step(batch, 1).rows, 0);
}

TEST(DecoderTest, BitsDoNotDependOnThreads) {
  std::vector<std::vector<float>> found;
  const int threads = ThreadsInUse();
  for (const int count : {1, 2, 5}) {
    UseThreads(count);
    Pair pair(kAdapters);
    pair.decoder->Step(RandomBatch(pair.shape, {40, 3, 25}, 35), 1);
    found.emplace_back();
    for (const Parameter* parameter : pair.decoder->parameters())
      found.back().insert(found.back().end(), parameter->gradient.begin(), parameter->gradient.end());
  }
  UseThreads(threads);
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[0], found[2]);
}

TEST(DecoderTest, LearnsAFewRowsByHeart) {
  Pair pair({.rank = 8, .scale = 2});
  Batch batch = RandomBatch(pair.shape, {6, 6, 6, 6, 6, 6, 6, 6}, 37);
  // Each token has one that follows it: no two rows contradict each other.
  for (size_t i = 0; i < batch.tokens.size(); ++i)
    if (batch.targets[i] != kNoTarget) batch.targets[i] = (7 * batch.tokens[i] + 3) % 30;
  const auto parameters = pair.decoder->parameters();
  AdamW optimizer;
  const BatchLoss before = pair.decoder->Evaluate(batch);
  for (int64_t step = 0; step < 300; ++step) {
    ClearGradients(parameters);
    pair.decoder->Step(batch, 1.0F / static_cast<float>(before.rows));
    optimizer.Step(parameters, RateOf({.rate = 0.02, .steps = 300, .warmup = 10}, step));
    pair.decoder->Refresh();
  }
  const BatchLoss after = pair.decoder->Evaluate(batch);
  EXPECT_GT(before.sum / static_cast<double>(before.rows), 3);
  EXPECT_LT(after.sum / static_cast<double>(after.rows), 0.05);
}

TEST(DecoderTest, WeightsOfAnotherShapeAreRefused) {
  DecoderShape shape = Small();
  const auto weights = std::make_shared<RandomWeights>(shape, 36);
  const auto matmul = OneDnnMatmul();
  shape.block.hidden = 24;
  const auto decoder = Decoder::Create(matmul.get(), shape, DType::kF32, kAdapters, 1, weights);
  ASSERT_FALSE(decoder.ok());
  EXPECT_EQ(decoder.status().code(), Code::kInvalid);
}

}  // namespace
}  // namespace headrace::nn
