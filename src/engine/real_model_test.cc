// The engine over real contexts of llama.cpp: tiny models made at random, and the small real one where it is
// installed.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "base/file.h"
#include "base/json.h"
#include "engine/real_model_testing.h"
#include "model/chat.h"

namespace headrace::engine {
namespace {

// No text has fewer tokens than the bound that long prompts are refused by; runs of blanks and lines come
// nearest.
TEST(RealModel, FewestTokensIsABound) {
  const std::string path = RealModel("gemma-3-270m-q4_k_m.gguf");
  if (path.empty()) GTEST_SKIP() << "./dev setup models";
  const auto loaded = model::Model::Load(path, {.vocabulary_only = true});
  ASSERT_TRUE(loaded.ok());
  EXPECT_GT((*loaded)->FewestTokens(1 << 20), 1000);
  std::mt19937 random(5);
  const std::string parts[] = {" ",     "\n",           "\t",  "-", "=", "*", "<end_of_turn>",
                               "</h1>", "\xE2\x80\x94", "word"};
  for (int round = 0; round < 300; ++round) {
    const std::string& part = parts[random() % std::size(parts)];
    std::string text;
    for (size_t n = random() % 400; n > 0; --n)
      text += random() % 50 == 0 ? parts[random() % std::size(parts)] : part;
    const auto cut = (*loaded)->Tokenize(text, false, true);
    ASSERT_TRUE(cut.ok());
    EXPECT_GE(static_cast<int64_t>(cut->size()), (*loaded)->FewestTokens(text.size())) << text;
  }
}

// The same bits whatever else runs: alone, and among seven others that come and go.
TEST(RealModel, DeterministicTextDoesNotDependOnLoad) {
  for (const bool windowed : {false, true}) {
    const auto loaded = MakeTiny({.windowed = windowed, .seed = 5});
    std::mt19937_64 random(7);
    std::vector<Request> requests;
    std::vector<Token> stem;
    for (int i = 0; i < 150; ++i) stem.push_back(static_cast<Token>(3 + random() % 290));
    for (int i = 0; i < 24; ++i) {
      Request request;
      std::vector<Token> prompt(stem.begin(), stem.begin() + static_cast<ptrdiff_t>(random() % stem.size()));
      for (uint64_t n = 1 + random() % 40; n > 0; --n)
        prompt.push_back(static_cast<Token>(3 + random() % 290));
      request.prompt = std::move(prompt);
      request.max_tokens = 60;
      request.ignore_end = true;
      request.sampling.temperature = i % 2 == 0 ? 0.0F : 1.0F;
      request.sampling.seed = static_cast<uint64_t>(i);
      request.top_logprobs = 0;
      requests.push_back(std::move(request));
    }
    EngineOptions options;
    options.core.deterministic = true;
    options.core.grid = 32;
    options.decoder.cells = 4 * 512;
    options.core.slots = 4;
    std::vector<Answer> alone;
    for (const Request& request : requests) alone.push_back(Ask(MakeEngine(loaded, options).get(), request));
    const auto engine = MakeEngine(loaded, options);
    std::vector<std::shared_ptr<Stream>> streams;
    for (const Request& request : requests) streams.push_back(*engine->Submit(request));
    for (size_t i = 0; i < streams.size(); ++i) {
      const Answer answer = Read(streams[i].get());
      ASSERT_EQ(answer.tokens, alone[i].tokens) << "request " << i;
      for (size_t t = 0; t < answer.out.size(); ++t)
        ASSERT_EQ(answer.out[t].logprob, alone[i].out[t].logprob) << "request " << i << ", token " << t;
    }
    EXPECT_GT(engine->stats().cached_tokens, 0);
  }
}

TEST(RealModel, AnswersOfASchemaAreJson) {
  const std::string path = RealModel("gemma-3-270m-q4_k_m.gguf");
  if (path.empty()) GTEST_SKIP() << "./dev setup models";
  auto loaded = model::Model::Load(path);
  ASSERT_TRUE(loaded.ok());
  EngineOptions options;
  options.decoder.cells = 2048;
  const auto engine = MakeEngine(*loaded, options);
  Request request;
  request.prompt = *(*loaded)->Tokenize("A cat as JSON:", true, false);
  request.structure = {
      Structure::Kind::kSchema,
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer"},"kind":{"enum":["cat","dog"]}},"required":["name","age","kind"],"additionalProperties":false})"};
  request.max_tokens = 120;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    request.sampling.seed = seed;
    const Answer answer = Ask(engine.get(), request);
    ASSERT_TRUE(answer.last.error.ok()) << answer.last.error.ToString();
    if (answer.last.finish == Finish::kLength) continue;
    const auto json = ParseJson(answer.text);
    ASSERT_TRUE(json.is_object()) << answer.text;
    EXPECT_LE(json.at("name").get<std::string>().size(), 48U);
    EXPECT_TRUE(json.at("age").is_number_integer());
    EXPECT_TRUE(json.at("kind") == "cat" || json.at("kind") == "dog");
  }
}

TEST(RealModel, BaseModelsRefuseToChat) {
  const auto base = MakeTiny({.seed = 12});
  EXPECT_NE(model::ChatTemplate::Make(*base, "").status().ToString().find(
                "has no chat template: it is a base model"),
            std::string::npos);
  const auto named = model::ChatTemplate::Make(*base, "chatml");
  ASSERT_TRUE(named.ok()) << named.status().ToString();
  const auto prompt = (*named)->Render({{"system", "Be brief."}, {"user", "Hello"}});
  ASSERT_TRUE(prompt.ok()) << prompt.status().ToString();
  EXPECT_EQ(
      prompt->text(),
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
  const auto gemma = (*model::ChatTemplate::Make(*base, "gemma"))
                         ->Render({{"system", "S"}, {"user", "U"}, {"assistant", "A"}, {"user", "V"}});
  ASSERT_TRUE(gemma.ok()) << gemma.status().ToString();
  EXPECT_EQ(gemma->text(),
            "<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>"
            "user\nV<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_NE(model::ChatTemplate::Make(*base, "nosuch")
                .status()
                .ToString()
                .find("there is no chat template 'nosuch'"),
            std::string::npos);
  EXPECT_FALSE(model::ChatTemplate::Make(*base, "{{ unclosed").ok());
  const auto own = MakeTiny(
      {.seed = 13,
       .chat_template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"});
  const auto rendered = (*model::ChatTemplate::Make(*own, ""))->Render({{"user", "Hi"}});
  ASSERT_TRUE(rendered.ok()) << rendered.status().ToString();
  EXPECT_EQ(rendered->text(), "[user] Hi\n");
}

// Memory is measured where nothing is known of a model; what its steps took is stored, and then nothing is
// measured.
TEST(RealModel, MemoryIsMeasuredOnceForAModel) {
  const testing::TempFolder folder;
  const auto loaded = MakeTiny({.seed = 31});
  int measured = 0;
  EngineOptions options;
  options.decoder.cells = 256;
  options.cost_folder = folder.path();
  options.memory_speed = [&](int threads) {
    EXPECT_GT(threads, 0);
    ++measured;
    return 10e9;
  };
  Request request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 3;
  for (int run = 0; run < 3; ++run) {
    Ask(MakeEngine(loaded, options).get(), request);
    EXPECT_EQ(measured, 1) << run;
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))  // damaged: measured anew
    ASSERT_OK(ReplaceFile(entry.path().string(), "{", false));
  MakeEngine(loaded, options);
  EXPECT_EQ(measured, 2);
}

TEST(RealModel, AContextOfAlmostNothing) {
  for (const bool windowed : {false, true}) {
    const auto loaded = MakeTiny({.windowed = windowed});
    for (const int cells : {1, 100}) {
      EngineOptions options;
      options.decoder.cells = cells;
      options.decoder.max_rows = 1;
      const auto engine = MakeEngine(loaded, options);
      ASSERT_NE(engine, nullptr);
      Request request;
      request.prompt = {1, 2, 3};
      request.max_tokens = 3;
      request.ignore_end = true;
      auto stream = engine->Submit(request);
      ASSERT_TRUE(stream.ok());
      EXPECT_EQ(Read(stream->get()).tokens.size(), 3U);
    }
  }
}

// What a prompt's tokens are told to be worth is what the bare decoder says of them, chunk by chunk, with and
// without an answer behind it, and beside others.
TEST(RealModel, LogProbabilitiesOfAPrompt) {
  const auto loaded = MakeTiny({.windowed = true});
  std::vector<Token> prompt;
  for (int i = 0; i < 150; ++i) prompt.push_back(2 + (i * 7) % 90);
  auto decoder = model::NewDecoder(loaded, {.cells = 1024});
  ASSERT_TRUE(decoder.ok());
  std::vector<float> wanted;
  for (size_t i = 0; i + 1 < prompt.size(); ++i) {
    ASSERT_TRUE(
        (*decoder)->Decode(std::vector<model::Row>{{prompt[i], static_cast<int32_t>(i), 0, true}}, 1).ok());
    wanted.push_back(Sampler::LogProbability((*decoder)->Logits(0), prompt[i + 1], 0, nullptr).logprob);
  }
  const auto engine = MakeEngine(loaded, {.decoder = {.cells = 2048}});
  Request other;
  other.prompt = prompt;
  other.max_tokens = 60;
  other.ignore_end = true;
  auto beside = engine->Submit(other);
  for (const int answer : {0, 4, 0}) {
    Request request;
    request.prompt = prompt;
    request.max_tokens = answer;
    request.ignore_end = true;
    request.prompt_logprobs = 2;
    auto stream = engine->Submit(request);
    ASSERT_TRUE(stream.ok());
    std::vector<TokenOut> got;
    size_t said = 0;
    while (auto delta = (*stream)->Next()) {
      for (auto& token : delta->prompt) got.push_back(std::move(token));
      said += delta->tokens.size();
    }
    EXPECT_EQ(said, static_cast<size_t>(answer));
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].token, prompt[i + 1]);
      EXPECT_NEAR(got[i].logprob, wanted[i], kDeviations * HalfPrecisionNoise(150, 6)) << i;
      ASSERT_EQ(got[i].top.size(), 2U);
      EXPECT_GE(got[i].top[0].logprob, got[i].logprob);
    }
  }
  Read(beside->get());
}

}  // namespace
}  // namespace headrace::engine
