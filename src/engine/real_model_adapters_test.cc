// LoRA adapters over real contexts of llama.cpp.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "engine/real_model_testing.h"

namespace headrace::engine {
namespace {

// Requests of several adapters, of ranks of their own, and of none: in one step (stacked), in turns, and each
// alone. Turns and alone are llama.cpp's own adapters, which need no stack: it cannot be made where the files
// are gone.
TEST(RealModel, AdaptersAnswerAsAlone) {
  const auto turns = MakeTiny({.seed = 9}), stacked = MakeTiny({.seed = 9});
  std::vector<std::string> paths;
  for (int a = 0; a < 3; ++a) {
    paths.push_back(::testing::TempDir() + "adapter-" + std::to_string(getpid()) + "-" + std::to_string(a) +
                    ".gguf");
    testing::WriteTinyAdapter(paths.back(), static_cast<uint64_t>(a) + 1, 0.5F, 3 + 2 * a);
    for (const auto& loaded : {turns, stacked}) {
      auto index = loaded->LoadAdapter(paths.back(), a == 1 ? 0.5F : 1.0F);
      ASSERT_TRUE(index.ok()) << index.status().ToString();
      EXPECT_EQ(*index, a);
    }
  }
  EngineOptions options;
  options.decoder.cells = 2048;
  const auto mixing = MakeEngine(stacked, options);
  for (const std::string& path : paths) std::remove(path.c_str());
  const auto turning = MakeEngine(turns, options);
  std::vector<Request> requests;
  std::vector<Answer> alone;
  for (int i = 0; i < 8; ++i) {
    Request request;
    for (int t = 0; t < 40; ++t) request.prompt.Add(std::vector<Token>{3 + t * 5});
    request.adapter = i % 4 - 1;
    request.max_tokens = 12;
    request.ignore_end = true;
    request.sampling.temperature = 0;
    request.top_logprobs = 1;
    requests.push_back(request);
    alone.push_back(Ask(MakeEngine(turns, options).get(), request));
  }
  for (Engine* engine : {turning.get(), mixing.get()}) {
    std::vector<std::shared_ptr<Stream>> streams;
    for (const Request& request : requests) streams.push_back(*engine->Submit(request));
    for (size_t i = 0; i < streams.size(); ++i) {
      const Answer answer = Read(streams[i].get());
      ASSERT_EQ(answer.out.size(), alone[i].out.size());
      for (size_t t = 0; t < answer.tokens.size(); ++t) {
        EXPECT_EQ(answer.tokens[t], alone[i].tokens[t]) << i << ", token " << t;
        EXPECT_NEAR(answer.out[t].logprob, alone[i].out[t].logprob, kDeviations * HalfPrecisionNoise(52, 2))
            << i << ", token " << t;
      }
    }
    EXPECT_EQ(engine->stats().mixed_steps > 0, engine == mixing.get());
  }
  EXPECT_GT(std::abs(alone[0].out[0].logprob - alone[1].out[0].logprob) +
                std::abs(alone[1].out[0].logprob - alone[2].out[0].logprob),
            0.05);  // they do differ
  Request none = requests[0];
  none.adapter = 7;
  EXPECT_EQ(mixing->Submit(none).status().ToString(), "there is no adapter 7");
}

// Up to 512 ranks together (kMostRank in model/adapter_stack.cc) rows of different adapters share steps;
// beyond, they take turns. Either way each answers as alone.
TEST(RealModel, AdaptersShareStepsUpToSoManyRanks) {
  const std::string path = ::testing::TempDir() + "rank-" + std::to_string(getpid()) + "-";
  for (const int rank : {255, 256, 257}) {
    const auto loaded = MakeTiny({.seed = 17});
    for (const int of : {256, rank}) {
      const std::string file = path + std::to_string(loaded->adapters().size());
      testing::WriteTinyAdapter(file, static_cast<uint64_t>(of), 0.1F, of);
      ASSERT_OK(loaded->LoadAdapter(file).status());
    }
    EngineOptions options;
    options.decoder.cells = 1024;
    const auto engine = MakeEngine(loaded, options);
    std::vector<Request> requests;
    std::vector<Answer> alone;
    for (int i = 0; i < 6; ++i) {
      Request request;
      for (int t = 0; t < 20; ++t) request.prompt.Add(std::vector<Token>{3 + t * 7});
      request.adapter = i % 3 - 1;
      request.max_tokens = 12;
      request.ignore_end = true;
      request.sampling.temperature = 0;
      request.top_logprobs = 0;
      requests.push_back(request);
      if (i < 3) alone.push_back(Ask(MakeEngine(loaded, options).get(), request));
    }
    std::vector<std::shared_ptr<Stream>> streams;
    for (const Request& request : requests) streams.push_back(*engine->Submit(request));
    for (size_t i = 0; i < streams.size(); ++i) {
      const Answer answer = Read(streams[i].get());
      ASSERT_EQ(answer.tokens, alone[i % 3].tokens) << rank << ", request " << i;
      for (size_t t = 0; t < answer.out.size(); ++t)
        EXPECT_NEAR(answer.out[t].logprob, alone[i % 3].out[t].logprob,
                    kDeviations * HalfPrecisionNoise(32, 2))
            << rank << ", request " << i << ", token " << t;
    }
    EXPECT_EQ(engine->stats().mixed_steps > 0, 256 + rank <= 512) << rank;
    for (const char* which : {"0", "1"}) std::remove((path + which).c_str());
  }
}

// A context knows the adapters that there were when it was made, with a stack of them and without: one that
// the model loads later is refused there, and taken by a context that is made then.
TEST(RealModel, AnAdapterLoadedLaterNeedsANewContext) {
  for (const bool unified : {true, false}) {
    const auto loaded = MakeTiny({.seed = 13});
    const std::string path = ::testing::TempDir() + "late-" + std::to_string(getpid()) + ".gguf";
    testing::WriteTinyAdapter(path, 1, 0.5F);
    ASSERT_OK(loaded->LoadAdapter(path).status());
    EngineOptions options;
    options.decoder.cells = 512;
    options.decoder.unified = unified;
    const auto before = MakeEngine(loaded, options);
    Request request;
    request.prompt = {1, 270, 271};
    request.max_tokens = 4;
    request.ignore_end = true;
    request.adapter = 0;
    EXPECT_EQ(Ask(before.get(), request).tokens.size(), 4U);
    ASSERT_OK(loaded->LoadAdapter(path).status());
    request.adapter = 1;
    const auto late = before->Submit(request);
    ASSERT_FALSE(late.ok());
    EXPECT_EQ(late.status().ToString(), "there is no adapter 1");
    const auto after = MakeEngine(loaded, options);
    EXPECT_EQ(Ask(after.get(), request).tokens.size(), 4U);
    std::remove(path.c_str());
  }
}

}  // namespace
}  // namespace headrace::engine
