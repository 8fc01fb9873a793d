// For tests of samples: models, templates, and what the server makes of the same messages.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "testing.h"
#include "tiny_model.h"
#include "tune/samples.h"

namespace headrace::tune {

using Models = std::shared_ptr<const model::Model>;

// A vocabulary by SentencePiece, which puts spaces before texts.
inline Models Tiny() {
  static const Models model = [] {
    const std::string path = ::testing::TempDir() + "/headrace_samples_" + std::to_string(getpid()) + ".gguf";
    headrace::testing::WriteTinyModel(path, {});
    auto loaded = model::Model::Load(path);
    EXPECT_TRUE(loaded.ok()) << loaded.status().ToString();
    std::filesystem::remove(path);
    return Models(*loaded);
  }();
  return model;
}

// Null where it is not there.
inline Models Real(const char* file) {
  const std::string path = headrace::testing::RealModel(file);
  if (path.empty()) return nullptr;
  auto loaded = model::Model::Load(path, {.gpu_layers = 0, .vocabulary_only = true});
  EXPECT_TRUE(loaded.ok()) << loaded.status().ToString();
  return *loaded;
}
inline Models SmolLm() {
  static const Models model = Real("smollm2-135m-instruct-q4_1.gguf");
  return model;
}
inline Models Gemma() {
  static const Models model = Real("gemma-3-270m-q4_k_m.gguf");
  return model;
}

inline std::unique_ptr<SampleMaker> MakerOf(const Models& model, SampleOptions options) {
  if (options.columns.text.empty() && options.columns.prompt.empty() && options.columns.messages.empty())
    options.columns.messages = "messages";
  auto maker = SampleMaker::Make(model, options);
  EXPECT_TRUE(maker.ok()) << maker.status().ToString();
  return maker.ok() ? std::move(*maker) : nullptr;
}

// What tokens stand for, control tokens by their names.
inline std::string Written(const model::Model& model, const std::vector<int32_t>& tokens) {
  std::string text;
  for (const int32_t token : tokens)
    text += model.Piece(token).empty() ? model.Name(token) : std::string(model.Piece(token));
  return text;
}

// A stretch of learned tokens, and all those before it.
struct Learned {
  std::vector<int32_t> before, tokens;
};
inline std::vector<Learned> LearnedOf(const std::vector<Sample>& samples) {
  std::vector<Learned> found;
  for (const Sample& sample : samples)
    for (size_t i = 0; i < sample.tokens.size(); ++i) {
      if (sample.learn[i] == 0) continue;
      if (i == 0 || sample.learn[i - 1] == 0)
        found.push_back(
            {{sample.tokens.begin(), sample.tokens.begin() + static_cast<std::ptrdiff_t>(i)}, {}});
      found.back().tokens.push_back(sample.tokens[i]);
    }
  return found;
}

}  // namespace headrace::tune
