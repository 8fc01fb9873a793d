#include "nn/decoder.h"

#include <functional>

#include <gtest/gtest.h>

#include "nn/decoder_testing.h"
#include "nn/optimizer.h"
#include "nn/threads.h"
#include "nn/transformers_numbers.h"

namespace headrace::nn {
namespace {

constexpr AdapterShape kAdapters = {.rank = 3, .scale = 2};

double Length(const std::vector<float>& values) {
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  return std::sqrt(squares);
}

// How far `found` is from `expected`, in lengths of `expected`.
double Distance(const std::vector<float>& found, const std::vector<float>& expected) {
  std::vector<float> apart(found.size());
  for (size_t i = 0; i < found.size(); ++i) apart[i] = found[i] - expected[i];
  return Length(apart) / Length(expected);
}

// The greatest distance of a parameter's gradient of one decoder from that of the other.
double GradientDistance(Decoder* found, Decoder* expected) {
  double greatest = 0;
  for (size_t i = 0; i < expected->parameters().size(); ++i)
    greatest =
        std::max(greatest, Distance(found->parameters()[i]->gradient, expected->parameters()[i]->gradient));
  return greatest;
}

// By one thread, but where threads are what is tested: models are so small that more of them would only wait
// for each other.
class DecoderTest : public ::testing::Test {
 protected:
  DecoderTest() : threads_(ThreadsInUse()) { UseThreads(1); }
  ~DecoderTest() override { UseThreads(threads_); }

 private:
  int threads_;
};

class ArchitectureTest : public DecoderTest, public ::testing::WithParamInterface<Architecture> {};
INSTANTIATE_TEST_SUITE_P(All, ArchitectureTest, ::testing::Values(Llama(), Qwen25(), Qwen3(), Gemma3()),
                         [](const auto& info) { return info.param.name; });

// The decoder's loss, and the slope of each parameter's values in a random direction.
void ExpectTheReferences(const Architecture& architecture, const std::vector<int64_t>& lengths) {
  Pair pair(architecture, kAdapters);
  const Batch batch = RandomBatch(pair.shape, lengths, 23);
  const float scale = 0.25F;
  const BatchLoss loss = pair.decoder->Step(batch, scale);
  const double expected = pair.reference.Loss(batch);
  EXPECT_NEAR(loss.sum, expected, 1e-5 * expected);
  EXPECT_EQ(pair.decoder->Evaluate(batch).sum, loss.sum);
  Draws draws(24);
  for (const Parameter* parameter : pair.decoder->parameters()) {
    Numbers& held = pair.reference.adapters[parameter->name];
    const Numbers at = held;
    Numbers direction(at.size());
    double along = 0;
    for (size_t i = 0; i < at.size(); ++i) {
      direction[i] = draws.Around(1.5F);
      along += direction[i] * parameter->gradient[i];
    }
    const double slope = scale * Slope({0}, 0, [&](const Numbers& step) {
                           for (size_t i = 0; i < at.size(); ++i) held[i] = at[i] + step[0] * direction[i];
                           return pair.reference.Loss(batch);
                         });
    held = at;
    ASSERT_NEAR(along, slope, 1e-4 * (Length(parameter->gradient) + 0.5)) << parameter->name;
  }
}

TEST_P(ArchitectureTest, LossAndGradientsAreTheReferences) {
  ExpectTheReferences(GetParam(), {7, 1, 12, 30});
  ExpectTheReferences(GetParam(), {140, 3});  // more than one tile of attention
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("shape " + std::to_string(seed));
    ExpectTheReferences(Varied(GetParam(), seed), {9, 1, 17});
  }
}

// Of every value of a parameter: along a direction, times how far they go in it.
double Along(const Parameter& parameter, Draws* draws) {
  double sum = 0;
  for (const float value : parameter.gradient) sum += static_cast<double>(draws->Around(1.5F)) * value;
  return sum;
}

TEST_P(ArchitectureTest, LossAndGradientsAreTransformers) {
  Architecture architecture = GetParam();
  architecture.shape.block.pairs =
      RopePairs::kHalves;  // Llama's too: its GGUF files have rows in another order
  Pair pair(architecture, kAdapters);
  const BatchLoss loss = pair.decoder->Step(RandomBatch(pair.shape, {7, 1, 12, 30}, 23), 1);
  Draws draws(24);
  for (const TransformersNumbers& expected : AllTransformersNumbers()) {
    if (expected.architecture != architecture.name) continue;
    EXPECT_NEAR(loss.sum, expected.loss, 1e-5 * expected.loss);
    const auto parameters = pair.decoder->parameters();
    ASSERT_EQ(parameters.size(), expected.slopes.size());
    for (size_t i = 0; i < parameters.size(); ++i)
      EXPECT_NEAR(Along(*parameters[i], &draws), expected.slopes[i],
                  1e-4 * (Length(parameters[i]->gradient) + 0.5))
          << parameters[i]->name;
    return;
  }
  FAIL() << "no numbers";
}

TEST_P(ArchitectureTest, SingleGradientsAreTheReferences) {
  Pair pair(GetParam(), kAdapters);
  const Batch batch = RandomBatch(pair.shape, {7, 1, 12, 30}, 25);
  pair.decoder->Step(batch, 1);
  Draws draws(26);
  size_t looked_at = 0;
  for (const Parameter* parameter : pair.decoder->parameters()) {
    for (int sample = 0; sample < 3; ++sample) {
      const size_t i = draws.Next() % parameter->values.size();
      Numbers& held = pair.reference.adapters[parameter->name];
      const double slope = Slope(held, i, [&](const Numbers& at) {
        Numbers before = at;
        std::swap(before, held);
        const double value = pair.reference.Loss(batch);
        std::swap(before, held);
        return value;
      });
      ASSERT_NEAR(parameter->gradient[i], slope, 1e-4 * (Length(parameter->gradient) + 0.5))
          << parameter->name << " " << i;
      ++looked_at;
    }
  }
  // values, A and B, weights
  EXPECT_EQ(looked_at, 3U * 2 * 7 * static_cast<size_t>(pair.shape.layers));
}

TEST_P(ArchitectureTest, BFloat16IsNearFloat32) {
  if (!OneDnnMatmul()->Supports(DType::kBF16)) GTEST_SKIP() << "this processor has no such products";
  Pair wide(GetParam(), kAdapters);
  Pair narrow(GetParam(), kAdapters, DType::kBF16);
  const Batch batch = RandomBatch(wide.shape, {7, 1, 12, 30, 50}, 27);
  const double expected = wide.decoder->Step(batch, 1).sum;
  const double found = narrow.decoder->Step(batch, 1).sum;
  EXPECT_EQ(narrow.decoder->Evaluate(batch).sum, found);
  EXPECT_NEAR(found, expected, 0.01 * expected);
  EXPECT_LT(GradientDistance(narrow.decoder.get(), wide.decoder.get()), 0.15);
}

TEST_P(ArchitectureTest, PackedAndAccumulatedAreTheSame) {
  Pair packed(GetParam(), kAdapters);
  Pair apart(GetParam(), kAdapters);
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
  EXPECT_LT(GradientDistance(packed.decoder.get(), apart.decoder.get()), 1e-5);
}

TEST_P(ArchitectureTest, WhatIsNotLearnedFromHasNoPart) {
  Pair pair(GetParam(), kAdapters);
  Batch batch = RandomBatch(pair.shape, {10, 10}, 34);
  for (size_t i = 10; i < 20; ++i) batch.targets[i] = kNoTarget;  // nothing of the second document
  Pair other(GetParam(), kAdapters);
  Batch changed = batch;
  for (size_t i = 10; i < 20; ++i) changed.tokens[i] = 3;
  EXPECT_EQ(pair.decoder->Step(batch, 1).sum, other.decoder->Step(changed, 1).sum);
  EXPECT_LT(GradientDistance(pair.decoder.get(), other.decoder.get()), 1e-6);
  for (int32_t& target : batch.targets) target = kNoTarget;
  EXPECT_EQ(pair.decoder->Step(batch, 1).rows, 0);
}

TEST_P(ArchitectureTest, BitsDoNotDependOnThreads) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    if (!OneDnnMatmul()->Supports(type)) continue;
    std::vector<std::vector<float>> found;
    for (const int count : {1, 2, 5}) {
      UseThreads(count);
      Pair pair(GetParam(), kAdapters, type);
      pair.decoder->Step(RandomBatch(pair.shape, {40, 3, 150, 25}, 35), 1);
      found.emplace_back();
      for (const Parameter* parameter : pair.decoder->parameters())
        found.back().insert(found.back().end(), parameter->gradient.begin(), parameter->gradient.end());
    }
    EXPECT_EQ(found[0], found[1]);
    EXPECT_EQ(found[0], found[2]);
  }
}

TEST_P(ArchitectureTest, LearnsAFewRowsByHeart) {
  Pair pair(GetParam(), {.rank = 8, .scale = 2});
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

TEST_P(ArchitectureTest, AnUntrainedAdapterChangesNothing) {
  const DecoderShape& shape = GetParam().shape;
  const auto matmul = OneDnnMatmul();
  const auto weights = std::make_shared<RandomWeights>(GetParam(), DType::kF32, 31);
  const Batch batch = RandomBatch(shape, {9, 4}, 32);
  const auto with = Decoder::Create(matmul.get(), shape, DType::kF32, kAdapters, 1, weights);
  const auto without = Decoder::Create(matmul.get(), shape, DType::kF32, {}, 1, weights);
  EXPECT_EQ((*with)->Evaluate(batch).sum, (*without)->Evaluate(batch).sum);
  EXPECT_TRUE((*without)->parameters().empty());
}

// A change of the reference, which the comparison of losses has to notice: by far more than its bound.
struct Change {
  std::string name;
  std::function<void(Reference*)> make;
};

void ExpectNoticed(const Architecture& architecture, const std::vector<Change>& changes) {
  Pair pair(architecture, kAdapters);
  const Batch batch = RandomBatch(pair.shape, {7, 1, 12, 30}, 23);
  const double loss = pair.reference.Loss(batch);
  for (const Change& change : changes) {
    Reference changed = pair.reference;
    change.make(&changed);
    EXPECT_GT(std::abs(changed.Loss(batch) - loss), 5e-4 * loss) << change.name;
  }
}

Change OfLayers(const std::string& name, const std::function<void(RandomWeights::Layer*)>& make) {
  return {name, [make](Reference* reference) {
            for (RandomWeights::Layer& layer : reference->layers) make(&layer);
          }};
}

TEST_F(DecoderTest, EveryPartOfAnArchitectureCounts) {
  const Change pairs = {"pairs", [](Reference* r) { r->shape.block.pairs = RopePairs::kAdjacent; }};
  const Change query_norm = OfLayers("query norm", [](auto* layer) { layer->query_norm.clear(); });
  const Change key_norm = OfLayers("key norm", [](auto* layer) { layer->key_norm.clear(); });
  const auto without = [](int64_t first, int64_t count) {
    return [first, count](RandomWeights::Layer* layer) {
      std::fill_n(layer->qkv_bias.begin() + first, count, 0.0F);
    };
  };
  const BlockShape qwen = Qwen25().shape.block;
  ExpectNoticed(Qwen25(), {pairs, OfLayers("bias of q", without(0, qwen.queries())),
                           OfLayers("bias of k", without(qwen.queries(), qwen.keys())),
                           OfLayers("bias of v", without(qwen.queries() + qwen.keys(), qwen.keys()))});
  ExpectNoticed(Qwen3(), {pairs, query_norm, key_norm});
  ExpectNoticed(
      Gemma3(),
      {pairs,
       query_norm,
       key_norm,
       OfLayers("attention's post norm", [](auto* layer) { layer->attention_post_norm.clear(); }),
       OfLayers("the gated layer's post norm", [](auto* layer) { layer->gated_post_norm.clear(); }),
       {"gate", [](Reference* r) { r->shape.block.gate = Gate::kSilu; }},
       {"scale of scores", [](Reference* r) { r->shape.block.score_scale = 0; }},
       {"scale of the embedding", [](Reference* r) { r->shape.embedding_scale = 1; }},
       {"kinds", [](Reference* r) { r->shape.kinds.clear(); }},
       {"order of kinds", [](Reference* r) { std::reverse(r->shape.kinds.begin(), r->shape.kinds.end()); }},
       {"window", [](Reference* r) { ++r->shape.window; }},
       {"base", [](Reference* r) { r->shape.rope_base = 10; }},
       {"base of sliding layers", [](Reference* r) { r->shape.sliding_rope_base = 300; }},
       {"factors", [](Reference* r) { r->shape.rope_factors.clear(); }}});
}

TEST_F(DecoderTest, GemmasEverySixthLayerIsFull) {
  const std::vector<LayerKind> kinds = FullEvery(6, 18);
  ASSERT_EQ(kinds.size(), 18U);
  for (size_t i = 0; i < kinds.size(); ++i)
    EXPECT_EQ(kinds[i] == LayerKind::kFull, i == 5 || i == 11 || i == 17) << i;
}

// Through each layer, a row sees window - 1 rows further back, and no full layer lets it see more.
TEST_F(DecoderTest, WindowsCut) {
  Architecture sliding = Gemma3();
  sliding.shape.kinds.assign(4, LayerKind::kSliding);
  for (const int64_t window : {1, 5, 40}) {
    sliding.shape.window = window;
    Pair pair(sliding, kAdapters);
    Batch batch = RandomBatch(pair.shape, {20, 200, 3}, 38);
    std::fill(batch.targets.begin(), batch.targets.end(), kNoTarget);
    batch.targets[219] = 4;
    const double loss = pair.decoder->Evaluate(batch).sum;
    const auto changed = [&](int64_t row) {
      Batch other = batch;
      int32_t& token = other.tokens[static_cast<size_t>(row)];
      token = (token + 1) % 30;
      return pair.decoder->Evaluate(other).sum;
    };
    const int64_t farthest = 219 - 4 * (window - 1);
    EXPECT_NE(changed(farthest), loss) << window;
    EXPECT_EQ(changed(farthest - 1), loss) << window;
    EXPECT_EQ(changed(20), loss) << window;
    EXPECT_EQ(changed(19), loss) << window;  // of another document
  }
  Pair pair(Gemma3(), kAdapters);  // its third layer is full
  Batch batch = RandomBatch(pair.shape, {20, 200}, 38);
  std::fill(batch.targets.begin(), batch.targets.end(), kNoTarget);
  batch.targets[219] = 4;
  const double loss = pair.decoder->Evaluate(batch).sum;
  batch.tokens[20] = (batch.tokens[20] + 1) % 30;
  EXPECT_NE(pair.decoder->Evaluate(batch).sum, loss);
}

Code Refusal(const Architecture& architecture, const std::shared_ptr<RandomWeights>& weights) {
  const auto matmul = OneDnnMatmul();
  const auto decoder = Decoder::Create(matmul.get(), architecture.shape, DType::kF32, kAdapters, 1, weights);
  return decoder.status().code();
}

TEST_F(DecoderTest, WeightsOfAnotherShapeAreRefused) {
  const auto weights = [](const Architecture& of) {
    return std::make_shared<RandomWeights>(of, DType::kF32, 36);
  };
  EXPECT_EQ(Refusal(Gemma3(), weights(Gemma3())), Code::kOk);
  Architecture other = Llama();
  other.shape.block.hidden = 24;
  EXPECT_EQ(Refusal(other, weights(Llama())), Code::kInvalid);
  for (const auto part :
       {&RandomWeights::Layer::qkv_bias, &RandomWeights::Layer::query_norm,
        &RandomWeights::Layer::attention_post_norm, &RandomWeights::Layer::gated_post_norm}) {
    const auto longer = weights(Gemma3());
    (longer->layers[1].*part).resize((longer->layers[1].*part).size() + 1);
    EXPECT_EQ(Refusal(Gemma3(), longer), Code::kInvalid);
  }
  const auto half = weights(Qwen3());
  half->layers[0].key_norm.clear();
  EXPECT_EQ(Refusal(Qwen3(), half), Code::kInvalid);
}

TEST_F(DecoderTest, AShapeThatContradictsItselfIsRefused) {
  const auto weights = std::make_shared<RandomWeights>(Gemma3(), DType::kF32, 36);
  Architecture windowless = Gemma3();
  windowless.shape.window = 0;
  EXPECT_EQ(Refusal(windowless, weights), Code::kInvalid);
  Architecture few = Gemma3();
  few.shape.kinds.pop_back();
  EXPECT_EQ(Refusal(few, weights), Code::kInvalid);
}

}  // namespace
}  // namespace headrace::nn
