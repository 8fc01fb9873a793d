#include "tune/weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "model/backends.h"
#include "model/decoder.h"
#include "model/model.h"
#include "nn/matmul.h"
#include "testing.h"

namespace headrace::tune {
namespace {

std::string ModelFile(const std::string& name) {
  const char* folder = std::getenv("HEADRACE_MODELS");
  return folder == nullptr ? "" : std::string(folder) + "/" + name;
}

// log softmax of each row's next token, as llama.cpp computes it from the same file.
std::vector<double> ByLlama(const std::string& path, const std::vector<int32_t>& tokens) {
  auto model = model::Model::Load(path, {.gpu_layers = 0});
  EXPECT_TRUE(model.ok()) << model.status().ToString();
  model::DecoderOptions options;
  options.cells = options.max_rows = static_cast<int32_t>(tokens.size());
  options.paths = 1;
  auto decoder = std::move(model::NewDecoder(*model, options)).value();
  std::vector<model::Row> rows;
  for (size_t i = 0; i < tokens.size(); ++i)
    rows.push_back({.token = tokens[i], .position = static_cast<int32_t>(i), .output = true});
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

std::vector<double> ByTrainer(const std::string& path, nn::DType type, const std::vector<int32_t>& tokens) {
  const auto matmul = nn::OneDnnMatmul();
  auto file = model::TensorFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status().ToString();
  auto opened = OpenWeights(*file, type);
  EXPECT_TRUE(opened.ok()) << opened.status().ToString();
  opened->shape.context = 512;
  auto decoder = nn::Decoder::Create(matmul.get(), opened->shape, type, {}, 1, opened->source);
  EXPECT_TRUE(decoder.ok()) << decoder.status().ToString();
  std::vector<double> found;
  nn::Batch batch{.tokens = tokens, .starts = {0, static_cast<int64_t>(tokens.size())}, .targets = {}};
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    batch.targets.assign(tokens.size(), nn::kNoTarget);
    batch.targets[i] = tokens[i + 1];
    found.push_back(-(*decoder)->Evaluate(batch).sum);
  }
  return found;
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

// A pair of rotary positions that is turned the wrong way, a forgotten norm or factor is off by nats.
TEST(Weights, AreThoseThatServe) {
  const std::string path = ModelFile("smollm2-135m-instruct-q4_1.gguf");
  if (path.empty()) GTEST_SKIP() << "HEADRACE_MODELS is not set";
  auto model = model::Model::Load(path, {.gpu_layers = 0, .vocabulary_only = true});
  ASSERT_TRUE(model.ok());
  const auto tokens = (*model)->Tokenize(
      "The capital of France is Paris. The capital of Italy is Rome. Water boils at one hundred degrees, and "
      "it freezes at zero; that is how the scale was made.",
      true, false);
  ASSERT_TRUE(tokens.ok());

  // With weights in single precision llama.cpp rounds keys and values to half precision, and nothing else:
  // 11 bits of some thousand values each, whose errors add up over 30 layers.
  const testing::TempFolder folder;
  const std::string wide = folder.path() + "/wide.gguf";
  ASSERT_TRUE(model::Quantize(path, wide, "F32", 2).ok());
  const std::vector<double> exact = ByTrainer(wide, nn::DType::kF32, *tokens);
  EXPECT_LT(Between(exact, ByLlama(wide, *tokens)).root_mean_square, 0.01);
  // The same numbers, however they are stored.
  EXPECT_EQ(exact, ByTrainer(path, nn::DType::kF32, *tokens));
  // Of quantized weights llama.cpp turns activations to 8 bits, too.
  EXPECT_LT(Between(exact, ByLlama(path, *tokens)).root_mean_square, 0.25);
  if (nn::OneDnnMatmul()->Supports(nn::DType::kBF16)) {
    EXPECT_LT(Between(ByTrainer(path, nn::DType::kBF16, *tokens), exact).root_mean_square, 0.25);
  }
}

}  // namespace
}  // namespace headrace::tune
