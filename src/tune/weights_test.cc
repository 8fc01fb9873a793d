#include "tune/trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "base/file.h"
#include "model/decoder.h"
#include "model/model.h"
#include "nn/matmul.h"
#include "testing.h"
#include "tiny_model.h"

namespace headrace::tune {
namespace {

std::string ModelFile(const std::string& name) {
  const char* folder = std::getenv("HEADRACE_MODELS");
  return folder == nullptr ? "" : std::string(folder) + "/" + name;
}

// Log probability of each next token, as llama.cpp computes it from the same file, with an adapter if one is
// named.
std::vector<double> ByLlama(const std::string& path, const std::vector<int32_t>& tokens,
                            const std::string& adapter = "") {
  auto loaded = model::Model::Load(path, {.gpu_layers = 0});
  EXPECT_TRUE(loaded.ok()) << loaded.status().ToString();
  int32_t number = -1;
  if (!adapter.empty()) {
    const auto there = (*loaded)->LoadAdapter(adapter);
    EXPECT_TRUE(there.ok()) << there.status().ToString();
    number = *there;
  }
  model::DecoderOptions options;
  options.cells = options.max_rows = static_cast<int32_t>(tokens.size());
  options.paths = 1;
  auto decoder = std::move(model::NewDecoder(*loaded, options)).value();
  std::vector<model::Row> rows;
  for (size_t i = 0; i < tokens.size(); ++i)
    rows.push_back(
        {.token = tokens[i], .position = static_cast<int32_t>(i), .output = true, .adapter = number});
  EXPECT_TRUE(decoder->Decode(rows, 2).ok());
  std::vector<double> found;
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    const auto logits = decoder->Logits(static_cast<int>(i));
    double most = -INFINITY;
    for (const float value : logits) most = std::max(most, static_cast<double>(value));
    double sum = 0;
    for (const float value : logits) sum += std::exp(value - most);
    found.push_back(logits[static_cast<size_t>(tokens[i + 1])] - most - std::log(sum));
  }
  return found;
}

std::vector<double> ByTrainer(Trainer* trainer, const std::vector<int32_t>& tokens) {
  std::vector<double> found;
  nn::Batch batch{.tokens = tokens, .starts = {0, static_cast<int64_t>(tokens.size())}, .targets = {}};
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    batch.targets.assign(tokens.size(), nn::kNoTarget);
    batch.targets[i] = tokens[i + 1];
    const auto loss = trainer->Evaluate(batch);
    EXPECT_TRUE(loss.ok()) << loss.status().ToString();
    found.push_back(-loss->sum);
  }
  return found;
}
std::vector<double> ByTrainer(const std::string& path, nn::DType type, const std::vector<int32_t>& tokens) {
  auto trainer = Trainer::Open({.path = path, .type = type, .context = 512});
  EXPECT_TRUE(trainer.ok()) << trainer.status().ToString();
  return ByTrainer(trainer->get(), tokens);
}

struct Difference {
  double mean = 0, root_mean_square = 0;
};
Difference Between(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  Difference found;
  for (size_t i = 0; i < a.size(); ++i) {
    found.mean += (a[i] - b[i]) / static_cast<double>(a.size());
    found.root_mean_square += (a[i] - b[i]) * (a[i] - b[i]) / static_cast<double>(a.size());
  }
  found.root_mean_square = std::sqrt(found.root_mean_square);
  std::printf("  mean %.5f, root mean square %.5f nats\n", found.mean, found.root_mean_square);
  return found;
}

// llama.cpp rounds keys and values to half precision, and the trainer nothing: 11 bits of some thousand
// values each, whose errors add up over the layers. A pair of rotary positions that is turned the wrong way,
// a forgotten norm, window or factor is off by nats.
constexpr double kHalfPrecision = 0.01;

std::vector<int32_t> SomeTokens(int count) {
  std::mt19937 random(7);
  std::vector<int32_t> tokens = {1};
  while (static_cast<int>(tokens.size()) < count) tokens.push_back(3 + static_cast<int32_t>(random() % 290));
  return tokens;
}

class TinyWeights : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    testing::TinyModel shape;
    shape.windowed = GetParam() == std::string("gemma3");
    if (!shape.windowed && GetParam() != std::string("llama")) shape.architecture = GetParam();
    testing::WriteTinyModel(path_, shape);
  }
  testing::TempFolder folder_;
  const std::string path_ = folder_.path() + "/tiny.gguf";
  const std::vector<int32_t> tokens_ = SomeTokens(100);  // gemma3's window is 16
};

TEST_P(TinyWeights, AreThoseThatServe) {
  EXPECT_LT(Between(ByTrainer(path_, nn::DType::kF32, tokens_), ByLlama(path_, tokens_)).root_mean_square,
            kHalfPrecision);
}

// Adapters of random values in every weight: what was learned is what is served.
TEST_P(TinyWeights, AndAdaptersAreServedAsTheyAreTrained) {
  for (const bool attention : {true, false}) {
    ASSERT_VALUE(
        const auto trainer,
        Trainer::Open({.path = path_,
                       .type = nn::DType::kF32,
                       .adapters = {.rank = 4, .scale = 1.5F, .attention = attention, .gated = true}}));
    std::mt19937 random(11);
    std::normal_distribution<float> normal(0, 0.2F);
    for (nn::Parameter* parameter : trainer->parameters())
      for (float& value : parameter->values) value = normal(random);
    trainer->Refresh();
    const std::string adapter = folder_.path() + "/adapter.gguf";
    ASSERT_OK(trainer->WriteAdapter(adapter, "tiny", {{"headrace.run", "1"}}));
    const std::vector<double> ours = ByTrainer(trainer.get(), tokens_);
    EXPECT_LT(Between(ours, ByLlama(path_, tokens_, adapter)).root_mean_square, kHalfPrecision);
    EXPECT_GT(Between(ours, ByLlama(path_, tokens_)).root_mean_square, 0.5) << "the adapter has an effect";
  }
}
INSTANTIATE_TEST_SUITE_P(Architectures, TinyWeights, ::testing::Values("llama", "gemma3", "qwen2", "qwen3"),
                         [](const auto& of) { return std::string(of.param); });

TEST(Weights, OfOtherArchitecturesAndShapesAreRefused) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/odd.gguf";
  const auto refusal = [&] { return Trainer::Open({.path = path}).status().ToString(); };
  EXPECT_NE(refusal().find("odd.gguf"), std::string::npos);
  testing::WriteTinyModel(path, {.architecture = "phi3"});
  EXPECT_NE(refusal().find("'phi3'; the trainer knows llama"), std::string::npos) << refusal();
  // Qwen2.5's biases in what calls itself Llama: a trainer that left them out would train another model.
  testing::WriteTinyModel(path, {.architecture = "qwen2"});
  std::string bytes;
  ASSERT_VALUE(bytes, ReadFile(path));
  for (size_t at = 0; (at = bytes.find("qwen2", at)) != std::string::npos;) bytes.replace(at, 5, "llama");
  ASSERT_OK(ReplaceFile(path, bytes, false));
  EXPECT_NE(refusal().find("does not know what to do with the tensor blk.0.attn_q.bias"), std::string::npos)
      << refusal();
  testing::WriteTinyModel(path, {});
  ASSERT_VALUE(bytes, ReadFile(path));
  ASSERT_OK(ReplaceFile(path, bytes.substr(0, bytes.size() - 1), false));
  EXPECT_NE(refusal().find("ends within blk.1.ffn_down.weight"), std::string::npos) << refusal();
  testing::WriteTinyModel(path, {});
  EXPECT_NE(Trainer::Open({.path = path, .context = 4096}).status().ToString().find("2048 tokens at most"),
            std::string::npos);
}

TEST(Weights, BatchesThatDoNotFitAreRefused) {
  const testing::TempFolder folder;
  const std::string path = folder.path() + "/tiny.gguf";
  testing::WriteTinyModel(path, {});
  ASSERT_VALUE(const auto trainer,
               Trainer::Open({.path = path, .context = 8, .adapters = {.rank = 2, .scale = 1}}));
  const auto refused = [&](const nn::Batch& batch) {
    return trainer->Step(batch, 1).status().Is(Code::kInvalid);
  };
  EXPECT_TRUE(refused({{1, 299}, {0, 2}, {5, -1}}));
  EXPECT_TRUE(refused({{1, -1}, {0, 2}, {5, -1}}));
  EXPECT_TRUE(refused({{1, 2}, {0, 2}, {299, -1}}));
  EXPECT_TRUE(refused({{1, 2}, {0, 2}, {-2, -1}}));
  EXPECT_TRUE(refused({{1, 2}, {0, 2}, {5}}));
  EXPECT_TRUE(refused({{1, 2}, {0, 3}, {5, -1}}));
  EXPECT_TRUE(refused({{1, 2}, {0, 2, 1, 2}, {5, -1}}));
  EXPECT_TRUE(refused({std::vector<int32_t>(9, 3), {0, 9}, std::vector<int32_t>(9, 3)}));
  EXPECT_TRUE(refused({{}, {}, {}}));
  ASSERT_VALUE(const nn::BatchLoss none, trainer->Step({{}, {0}, {}}, 1));
  EXPECT_EQ(none.rows, 0);
  ASSERT_VALUE(const nn::BatchLoss some, trainer->Step({{1, 298}, {0, 2}, {298, 0}}, 1));
  EXPECT_EQ(some.rows, 2);
}

void ComputesWhatServes(const std::string& name) {
  const std::string path = ModelFile(name);
  if (path.empty()) GTEST_SKIP() << "HEADRACE_MODELS is not set";
  auto model = model::Model::Load(path, {.gpu_layers = 0, .vocabulary_only = true});
  ASSERT_TRUE(model.ok());
  const auto tokens =
      (*model)->Tokenize("The capital of France is Paris, and the capital of Italy", true, false);
  ASSERT_TRUE(tokens.ok());

  const testing::TempFolder folder;
  const std::string wide = folder.path() + "/wide.gguf";
  ASSERT_TRUE(model::Quantize(path, wide, "F32", 2).ok());
  const std::vector<double> exact = ByTrainer(wide, nn::DType::kF32, *tokens);
  EXPECT_LT(Between(exact, ByLlama(wide, *tokens)).root_mean_square, kHalfPrecision);
  // The same numbers, however they are stored.
  EXPECT_EQ(exact, ByTrainer(path, nn::DType::kF32, *tokens));
  // Of quantized weights llama.cpp turns activations to 8 bits, too.
  EXPECT_LT(Between(exact, ByLlama(path, *tokens)).root_mean_square, 0.25);
  if (nn::OneDnnMatmul()->Supports(nn::DType::kBF16)) {
    EXPECT_LT(Between(ByTrainer(path, nn::DType::kBF16, *tokens), exact).root_mean_square, 0.25);
  }
}
TEST(Weights, OfSmolLm2AreThoseThatServe) { ComputesWhatServes("smollm2-135m-instruct-q4_1.gguf"); }
TEST(Weights, OfGemma3AreThoseThatServe) {
  if (!testing::InCi()) GTEST_SKIP() << "half a minute, in --ci";
  ComputesWhatServes("gemma-3-270m-q4_k_m.gguf");
}

}  // namespace
}  // namespace headrace::tune
