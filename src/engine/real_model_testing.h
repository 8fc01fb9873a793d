// For tests of the engine over real contexts of llama.cpp: models made at random, their answers, and how far
// two ways to compute one log-probability may be apart.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "testing.h"
#include "tiny_model.h"

namespace headrace::engine {

using headrace::testing::RealModel;
using headrace::testing::TinyModel;
using headrace::testing::WriteTinyModel;

inline std::shared_ptr<model::Model> MakeTiny(const TinyModel& shape) {
  const std::string path = ::testing::TempDir() + "tiny-" + std::to_string(getpid()) + "-" +
                           std::to_string(shape.seed) + (shape.windowed ? "w" : "") + ".gguf";
  WriteTinyModel(path, shape);
  auto loaded = model::Model::Load(path);
  EXPECT_TRUE(loaded.ok()) << loaded.status().ToString();
  std::remove(path.c_str());
  return loaded.ok() ? *loaded : nullptr;
}

inline std::unique_ptr<Engine> MakeEngine(const std::shared_ptr<model::Model>& loaded,
                                          EngineOptions options) {
  if (!options.cost_folder) options.cost_folder = "";
  if (!options.memory_speed) options.memory_speed = [](int) { return 10e9; };
  auto engine = Engine::Start(loaded, std::move(options));
  EXPECT_TRUE(engine.ok()) << engine.status().ToString();
  return engine.ok() ? std::move(*engine) : nullptr;
}

struct Answer {
  std::vector<Token> tokens;
  std::vector<TokenOut> out;
  std::string text;
  Delta last;
};

inline Answer Read(Stream* stream) {
  Answer answer;
  while (auto delta = stream->Next()) {
    answer.text += delta->text;
    for (const TokenOut& token : delta->tokens) {
      answer.tokens.push_back(token.token);
      answer.out.push_back(token);
    }
    if (delta->finish != Finish::kNone) answer.last = *delta;
  }
  return answer;
}

inline Answer Ask(Engine* engine, const Request& request) {
  auto stream = engine->Submit(request);
  EXPECT_TRUE(stream.ok()) << stream.status().ToString();
  return stream.ok() ? Read(stream->get()) : Answer{};
}

// ---- How far two ways to compute one log-probability may be apart: one deviation of it, from what the
// kernels round. None of these is measured, so they hold on every CPU; another token's or place's
// log-probability is off by several units.

// A tiny model's weights are single precision, its cache half. ggml's attention adds a row's values in half
// precision, in another order for one row than for a tile of rows: `keys` additions round by 2^-11 / sqrt(3)
// each. Attention is about half of what a layer adds; layers add up in quadrature; logits have a deviation of
// 0.4 * sqrt(64) (WriteTinyModel).
inline double HalfPrecisionNoise(int keys, int layers) {
  const double rounding = std::sqrt(keys) * 0x1p-11 / std::sqrt(3);
  return 0.5 * rounding * std::sqrt(layers) * 0.4 * std::sqrt(64);
}

// A 4-bit model's activations are rounded to 8 bits a block: by 0.5 / 127 / sqrt(3) of the block's largest,
// which is about 3 times its root mean square. Kernels for one row and for many add in another order, which
// moves activations over a step of the rounding. Two blocks a layer, both sides, in quadrature; logits
// deviate by 4.
inline double EightBitNoise(int layers) {
  return std::sqrt(2 * 2 * layers) * (0.5 / 127 / std::sqrt(3)) * 3 * 4;
}
// Of thousands of normal numbers none is larger than five deviations; one more for what the models above
// leave out. Their mean magnitude is 0.8 deviations.
inline constexpr double kDeviations = 6;

}  // namespace headrace::engine
