// The engine over real contexts of llama.cpp: tiny models made at random, and the small real one where it is
// installed.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "base/json.h"
#include "engine/engine.h"
#include "model/chat.h"
#include "testing.h"
#include "tiny_model.h"

namespace headrace::engine {
namespace {

using testing::RealModel;
using testing::TinyModel;
using testing::WriteTinyModel;

bool Set(const char* name) {
  const char* value = getenv(name);
  return value != nullptr && *value != '\0';
}

std::shared_ptr<model::Model> MakeTiny(const TinyModel& shape) {
  const std::string path = ::testing::TempDir() + "tiny-" + std::to_string(getpid()) + "-" +
                           std::to_string(shape.seed) + (shape.windowed ? "w" : "") + ".gguf";
  WriteTinyModel(path, shape);
  auto loaded = model::Model::Load(path);
  EXPECT_TRUE(loaded.ok()) << loaded.status().ToString();
  std::remove(path.c_str());
  return loaded.ok() ? *loaded : nullptr;
}

std::unique_ptr<Engine> MakeEngine(const std::shared_ptr<model::Model>& loaded, EngineOptions options) {
  options.cost_folder = "";
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

Answer Read(Stream* stream) {
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

Answer Ask(Engine* engine, const Request& request) {
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
double HalfPrecisionNoise(int keys, int layers) {
  const double rounding = std::sqrt(keys) * 0x1p-11 / std::sqrt(3);
  return 0.5 * rounding * std::sqrt(layers) * 0.4 * std::sqrt(64);
}

// A 4-bit model's activations are rounded to 8 bits a block: by 0.5 / 127 / sqrt(3) of the block's largest,
// which is about 3 times its root mean square. Kernels for one row and for many add in another order, which
// moves activations over a step of the rounding. Two blocks a layer, both sides, in quadrature; logits
// deviate by 4.
double EightBitNoise(int layers) { return std::sqrt(2 * 2 * layers) * (0.5 / 127 / std::sqrt(3)) * 3 * 4; }
// Of thousands of normal numbers none is larger than five deviations; one more for what the models above
// leave out. Their mean magnitude is 0.8 deviations.
constexpr double kDeviations = 6;

// Logits after a prompt, from a context that has seen nothing else.
class Cold {
 public:
  explicit Cold(const std::shared_ptr<model::Model>& loaded, int32_t cells) {
    auto made = model::NewDecoder(loaded, {.cells = cells, .max_rows = 512, .paths = 1});
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    decoder_ = std::move(*made);
  }
  std::span<const float> After(const std::vector<Token>& tokens) {
    decoder_->Truncate(0, 0);
    std::vector<model::Row> rows;
    for (size_t i = 0; i < tokens.size(); ++i) {
      rows.push_back({tokens[i], static_cast<int32_t>(i), 0, i + 1 == tokens.size()});
      if (rows.size() == 512 || i + 1 == tokens.size()) {
        EXPECT_TRUE(decoder_->Decode(rows, 2).ok());
        if (i + 1 < tokens.size()) rows.clear();
      }
    }
    return decoder_->Logits(static_cast<int>(rows.size()) - 1);
  }

 private:
  std::unique_ptr<model::Decoder> decoder_;
};

// Random trees of prompts through one engine whose cache is too small for them: prefixes are shared, evicted,
// saved and restored, requests preempted; the log-probabilities of every first token must be a cold
// context's.
void CheckReuse(const std::shared_ptr<model::Model>& loaded, int rounds, int longest, int32_t cells,
                double deviation, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  EngineOptions options;
  options.decoder.cells = cells;
  options.decoder.max_rows = 64;
  options.decoder.paths = 12;
  options.core.slots = 6;
  options.core.expected_answer = 4;  // too little: requests meet the end of the cache
  const auto engine = MakeEngine(loaded, options);
  Cold cold(loaded, 2 * longest);
  const int32_t vocabulary = loaded->facts().vocabulary;
  // A quantized model is chaotic on noise: it gets words.
  std::vector<Token> words;
  if (vocabulary > 1000)
    words = *loaded->Tokenize(
        " the river runs down to a mill and turns its wheel, while people of the town carry grain, talk "
        "about rain and wait for bread",
        false, false);
  std::vector<std::vector<Token>> seen;
  double worst = 0, sum = 0;
  int64_t compared = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::shared_ptr<Stream>> streams;
    std::vector<Request> requests;
    for (int64_t n = pick(1, 5); n > 0; --n) {
      Request request;
      std::vector<Token> prompt;
      if (!seen.empty() && pick(0, 3) != 0) {
        const auto& from = seen[static_cast<size_t>(pick(0, static_cast<int64_t>(seen.size()) - 1))];
        prompt.assign(from.begin(),
                      from.begin() + (pick(0, 2) == 0 ? static_cast<int64_t>(from.size())
                                                      : pick(1, static_cast<int64_t>(from.size()))));
      }
      const int64_t room = longest - static_cast<int64_t>(prompt.size());
      for (int64_t i = std::max<int64_t>(1, std::min(pick(1, longest / 2), room));
           i > 0 && static_cast<int>(prompt.size()) < longest; --i)
        prompt.push_back(words.empty()
                             ? static_cast<Token>(pick(3, vocabulary - 1))
                             : words[static_cast<size_t>(pick(0, static_cast<int64_t>(words.size()) - 1))]);
      request.prompt = prompt;
      request.sampling.temperature = 0;
      request.max_tokens = static_cast<int32_t>(pick(1, 66));
      request.ignore_end = true;
      request.top_logprobs = 5;
      auto stream = engine->Submit(request);
      ASSERT_TRUE(stream.ok());
      streams.push_back(*stream);
      requests.push_back(std::move(request));
    }
    for (size_t i = 0; i < streams.size(); ++i) {
      const Answer answer = Read(streams[i].get());
      ASSERT_TRUE(answer.last.error.ok()) << answer.last.error.ToString();
      ASSERT_FALSE(answer.out.empty());
      // The first token, and the last one: the whole answer stands behind it.
      std::vector<Token> upto = requests[i].prompt.keys();
      for (const size_t at : {size_t{0}, answer.out.size() - 1}) {
        upto.resize(requests[i].prompt.size());
        upto.insert(upto.end(), answer.tokens.begin(), answer.tokens.begin() + static_cast<ptrdiff_t>(at));
        const std::span<const float> logits = cold.After(upto);
        for (const LogProb& one : answer.out[at].top) {
          const float want = Sampler::LogProbability(logits, one.token, 0, nullptr).logprob;
          worst = std::max<double>(worst, std::abs(one.logprob - want));
          sum += std::abs(one.logprob - want);
          ++compared;
          ASSERT_NEAR(one.logprob, want, kDeviations * deviation)
              << "round " << round << ", prompt of " << requests[i].prompt.size() << " tokens, "
              << answer.last.usage.cached_tokens << " of them cached, answer's token " << at;
        }
      }
      std::vector<Token> whole = requests[i].prompt.keys();
      whole.insert(whole.end(), answer.tokens.begin(), answer.tokens.end());
      if (static_cast<int>(whole.size()) < longest) seen.push_back(std::move(whole));
      seen.push_back(requests[i].prompt.keys());
    }
  }
  const CoreStats stats = engine->stats();
  EXPECT_LT(sum / static_cast<double>(compared), deviation);
  EXPECT_GT(stats.cached_tokens, 0);
  EXPECT_EQ(stats.surprises, 0);
  std::printf(
      "  %ld of %ld prompt tokens were cached; %ld evictions, %ld restored, %ld preemptions; worst "
      "difference %.5f, mean %.5f\n",
      static_cast<long>(stats.cached_tokens), static_cast<long>(stats.prompt_tokens),
      static_cast<long>(stats.evictions), static_cast<long>(stats.restores),
      static_cast<long>(stats.preemptions), worst, sum / static_cast<double>(compared));
}

TEST(RealModel, ReusedPrefixesGiveColdLogitsFullAttention) {
  CheckReuse(MakeTiny({.seed = 3}), Set("HEADRACE_TEST_CI") ? 160 : 40, 150, 256, HalfPrecisionNoise(216, 2),
             1);
}

TEST(RealModel, ReusedPrefixesGiveColdLogitsWindow) {
  CheckReuse(MakeTiny({.windowed = true, .window = 16, .seed = 4}), Set("HEADRACE_TEST_CI") ? 160 : 40, 150,
             256, HalfPrecisionNoise(216, 6), 2);
}

TEST(RealModel, ReusedPrefixesGiveColdLogitsGemma) {
  const std::string path = RealModel("gemma-3-270m-q4_k_m.gguf");
  if (path.empty()) GTEST_SKIP() << "./dev setup models";
  auto loaded = model::Model::Load(path);
  ASSERT_TRUE(loaded.ok());
  CheckReuse(*loaded, Set("HEADRACE_TEST_CI") ? 5 : 2, 1400, 3072, EightBitNoise((*loaded)->facts().layers),
             5);
}

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

// What one engine computed, another of the same weights restores from the host cache that they share: with
// the same adapter only.
TEST(RealModel, PrefixesOutliveTheirEngine) {
  const auto loaded = MakeTiny({.seed = 21});
  EngineOptions options;
  options.decoder.cells = 1024;
  options.core.host = HostCache::Make({});
  options.weights_hash = "tiny 21";
  Request request;
  for (int i = 0; i < 300; ++i) request.prompt.Add(std::vector<Token>{2 + (i * 7) % 90});
  request.max_tokens = 4;
  request.ignore_end = true;
  request.sampling.temperature = 0;
  request.top_logprobs = 0;
  const Answer first = Ask(MakeEngine(loaded, options).get(), request);
  EXPECT_EQ(first.last.usage.cached_tokens, 0);
  EXPECT_GT(options.core.host->bytes(HostCache::Kind::kPrefix), 0);
  EngineOptions other = options;
  other.weights_hash = "tiny 22";
  EXPECT_EQ(Ask(MakeEngine(loaded, other).get(), request).last.usage.cached_tokens, 0);
  const auto engine = MakeEngine(loaded, options);
  const Answer second = Ask(engine.get(), request);
  EXPECT_EQ(second.last.usage.cached_tokens, 299);
  EXPECT_EQ(engine->stats().restores, 1);
  ASSERT_EQ(second.out.size(), first.out.size());
  for (size_t i = 0; i < first.out.size(); ++i)
    EXPECT_NEAR(second.out[i].logprob, first.out[i].logprob, kDeviations * HalfPrecisionNoise(300, 2));
}

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

// Inputs and their exact answers.
TEST(RealModel, HostileInputs) {
  const auto loaded = MakeTiny({.seed = 11});
  EngineOptions options;
  options.decoder.cells = 512;
  const auto engine = MakeEngine(loaded, options);
  Request good;
  good.prompt = {1, 270, 271};
  good.max_tokens = 4;
  const auto refused = [&](const std::function<void(Request*)>& change) -> std::string {
    Request request = good;
    change(&request);
    auto stream = engine->Submit(request);
    if (!stream.ok()) return stream.status().ToString();
    const Answer answer = Read(stream->get());
    return answer.last.finish == Finish::kError ? answer.last.error.ToString()
                                                : "finished: " + std::string(FinishName(answer.last.finish)) +
                                                      " " + std::to_string(answer.tokens.size());
  };
  EXPECT_EQ(refused([](Request* r) { r->prompt = {}; }), "the prompt is empty: there is nothing to continue");
  EXPECT_EQ(refused([](Request* r) { r->prompt = std::vector<Token>(1'000'000, 5); }),
            "the prompt has 1000000 tokens and the context holds 512, one of them for an answer; shorten the "
            "prompt or load the model with a longer context");
  EXPECT_EQ(refused([](Request* r) {
              r->prompt.Add(Media{"a cat", 4});
            }),
            "the prompt holds media, and this model reads text alone");
  EXPECT_EQ(refused([](Request* r) {
              r->prompt = {5, -1};
            }),
            "the prompt holds token -1; this model has tokens 0 to 298");
  EXPECT_EQ(refused([](Request* r) {
              r->prompt = {5, 299};
            }),
            "the prompt holds token 299; this model has tokens 0 to 298");
  EXPECT_EQ(refused([](Request* r) { r->sampling.temperature = NAN; }), "temperature must be from 0 to 100");
  EXPECT_EQ(refused([](Request* r) { r->sampling.temperature = -1; }), "temperature must be from 0 to 100");
  EXPECT_EQ(refused([](Request* r) { r->sampling.top_p = 0; }), "top_p must be above 0 and at most 1");
  EXPECT_EQ(refused([](Request* r) { r->sampling.top_p = NAN; }), "top_p must be above 0 and at most 1");
  EXPECT_EQ(refused([](Request* r) { r->sampling.min_p = INFINITY; }), "min_p must be from 0 to 1");
  EXPECT_EQ(refused([](Request* r) {
              r->sampling.logit_bias = {{5, NAN}};
            }),
            "logit_bias of token 5 must be from -100 to 100");
  EXPECT_EQ(refused([](Request* r) {
              r->sampling.logit_bias = {{5'000'000, 3.0F}};
            }).rfind("finished", 0),
            0U);
  EXPECT_EQ(refused([](Request* r) { r->max_tokens = 0; }), "finished: length 0");
  EXPECT_EQ(refused([](Request* r) { r->max_tokens = -5; }), "max_tokens must be 0 or more");
  EXPECT_EQ(refused([](Request* r) { r->stops = {std::string(10 << 20, 'x')}; }),
            "a stop string has 10485760 bytes; at most 65536 are taken (kMaxStopBytes)");
  EXPECT_EQ(refused([](Request* r) { r->stops = {""}; }), "a stop string is empty");
  EXPECT_EQ(refused([](Request* r) { r->stops.assign(17, "x"); }),
            "there are 17 stop strings; at most 16 are taken (kMaxStops)");
  EXPECT_EQ(refused([](Request* r) {
              r->structure = {Structure::Kind::kSchema, "{"};
            }),
            "the schema is not JSON");
  EXPECT_EQ(refused([](Request* r) {
              r->structure = {Structure::Kind::kSchema, "[1]"};
            }),
            "a JSON schema is an object, true or false");
  EXPECT_EQ(refused([](Request* r) {
              r->structure = {Structure::Kind::kSchema, R"({"properties":{"a":{"not":{"const":1}}}})"};
            }),
            "the schema's #/properties/a/not cannot be enforced; leave it out, or check the answer yourself");
  EXPECT_EQ(refused([](Request* r) {
              r->structure = {Structure::Kind::kSchema, std::string(2 << 20, ' ')};
            }),
            "a schema or grammar of 2097152 bytes is larger than the limit of 1048576 (kMaxSchemaBytes)");
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += R"({"items":)";
  EXPECT_EQ(refused([&](Request* r) {
              r->structure = {Structure::Kind::kSchema, deep};
            }),
            "the schema is nested more than 256 deep");
  EXPECT_NE(refused([](Request* r) {
              r->structure = {Structure::Kind::kRegex, "(["};
            }).find("the schema or grammar cannot be used"),
            std::string::npos);
  for (const char* nothing : {R"({"not":{}})", R"({"type":"string","minLength":3,"maxLength":2})"})
    EXPECT_EQ(refused([&](Request* r) {
                r->structure = {Structure::Kind::kSchema, nothing};
              }),
              "the schema allows no value at all");
  EXPECT_EQ(refused([](Request* r) { r->timeout = NAN; }), "the timeout must be 0 (none) or more seconds");
  // A schema that refers to itself is fine.
  EXPECT_EQ(
      refused([](Request* r) {
        r->sampling.temperature = 0;
        r->structure = {
            Structure::Kind::kSchema,
            R"({"$defs":{"n":{"type":"object","properties":{"c":{"type":"array","items":{"$ref":"#/$defs/n"}}},"additionalProperties":false}},"$ref":"#/$defs/n"})"};
        r->max_tokens = 30;
      }),
      "finished: end 9");
  // Bytes that are no UTF-8 are tokens like others.
  const auto tokens = loaded->Tokenize("\xFF\xFE\x80 ok \xC3", true, false);
  ASSERT_TRUE(tokens.ok());
  EXPECT_GE(tokens->size(), 5U);
  EXPECT_EQ(Ask(engine.get(), good).tokens.size(), 4U);  // all is still well
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
