// Reused prefixes over real contexts of llama.cpp: what is shared, evicted, saved and restored answers as if
// it had been computed anew.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include "engine/real_model_testing.h"

namespace headrace::engine {
namespace {

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
// saved and restored, requests preempted; the log-probabilities of the first and the last token of each
// answer must be a cold context's.
class ReuseCheck {
 public:
  // `longest`: of prompts, in tokens. `deviation`: of one log-probability, by what the kernels round.
  ReuseCheck(std::shared_ptr<model::Model> loaded, int longest, int32_t cells, double deviation,
             uint64_t seed)
      : loaded_(std::move(loaded)),
        longest_(longest),
        deviation_(deviation),
        random_(seed),
        engine_(MakeEngine(loaded_, SmallCache(cells))),
        cold_(loaded_, 2 * longest) {
    // A quantized model is chaotic on noise: it gets words.
    if (loaded_->facts().vocabulary > 1000)
      words_ = *loaded_->Tokenize(
          " the river runs down to a mill and turns its wheel, while people of the town carry grain, talk "
          "about rain and wait for bread",
          false, false);
  }

  // One to five requests at once, and their answers.
  void Round(int round) {
    std::vector<std::shared_ptr<Stream>> streams;
    std::vector<Request> requests;
    for (int64_t n = Pick(1, 5); n > 0; --n) {
      requests.push_back(NextRequest());
      auto stream = engine_->Submit(requests.back());
      ASSERT_TRUE(stream.ok());
      streams.push_back(*stream);
    }
    for (size_t i = 0; i < streams.size(); ++i) {
      const Answer answer = Read(streams[i].get());
      ASSERT_TRUE(answer.last.error.ok()) << answer.last.error.ToString();
      ASSERT_FALSE(answer.out.empty());
      // The whole answer stands behind its last token.
      for (const size_t at : {size_t{0}, answer.out.size() - 1})
        ASSERT_NO_FATAL_FAILURE(CompareWithCold(requests[i], answer, at))
            << "round " << round << ", prompt of " << requests[i].prompt.size() << " tokens, "
            << answer.last.usage.cached_tokens << " of them cached, answer's token " << at;
      Remember(requests[i], answer);
    }
  }

  void Totals() const {
    const CoreStats stats = engine_->stats();
    EXPECT_LT(sum_ / static_cast<double>(compared_), deviation_);
    EXPECT_GT(stats.cached_tokens, 0);
    EXPECT_EQ(stats.surprises, 0);
    std::printf(
        "  %ld of %ld prompt tokens were cached; %ld evictions, %ld restored, %ld preemptions; worst "
        "difference %.5f, mean %.5f\n",
        static_cast<long>(stats.cached_tokens), static_cast<long>(stats.prompt_tokens),
        static_cast<long>(stats.evictions), static_cast<long>(stats.restores),
        static_cast<long>(stats.preemptions), worst_, sum_ / static_cast<double>(compared_));
  }

 private:
  static EngineOptions SmallCache(int32_t cells) {
    EngineOptions options;
    options.decoder.cells = cells;
    options.decoder.max_rows = 64;
    options.decoder.paths = 12;
    options.core.slots = 6;
    options.core.expected_answer = 4;  // too little: requests meet the end of the cache
    return options;
  }

  int64_t Pick(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  // Often the beginning of one before, and new tokens behind it.
  std::vector<Token> NextPrompt() {
    std::vector<Token> prompt;
    if (!seen_.empty() && Pick(0, 3) != 0) {
      const auto& from = seen_[static_cast<size_t>(Pick(0, static_cast<int64_t>(seen_.size()) - 1))];
      prompt.assign(from.begin(),
                    from.begin() + (Pick(0, 2) == 0 ? static_cast<int64_t>(from.size())
                                                    : Pick(1, static_cast<int64_t>(from.size()))));
    }
    const int64_t room = longest_ - static_cast<int64_t>(prompt.size());
    for (int64_t i = std::max<int64_t>(1, std::min(Pick(1, longest_ / 2), room));
         i > 0 && static_cast<int>(prompt.size()) < longest_; --i)
      prompt.push_back(words_.empty()
                           ? static_cast<Token>(Pick(3, loaded_->facts().vocabulary - 1))
                           : words_[static_cast<size_t>(Pick(0, static_cast<int64_t>(words_.size()) - 1))]);
    return prompt;
  }

  Request NextRequest() {
    Request request;
    request.prompt = NextPrompt();
    request.sampling.temperature = 0;
    request.max_tokens = static_cast<int32_t>(Pick(1, 66));
    request.ignore_end = true;
    request.top_logprobs = 5;
    return request;
  }

  void CompareWithCold(const Request& request, const Answer& answer, size_t at) {
    std::vector<Token> upto = request.prompt.keys();
    upto.insert(upto.end(), answer.tokens.begin(), answer.tokens.begin() + static_cast<ptrdiff_t>(at));
    const std::span<const float> logits = cold_.After(upto);
    for (const LogProb& one : answer.out[at].top) {
      const float want = Sampler::LogProbability(logits, one.token, 0, nullptr).logprob;
      worst_ = std::max<double>(worst_, std::abs(one.logprob - want));
      sum_ += std::abs(one.logprob - want);
      ++compared_;
      ASSERT_NEAR(one.logprob, want, kDeviations * deviation_);
    }
  }

  // Later prompts begin like this one, and like it with its answer.
  void Remember(const Request& request, const Answer& answer) {
    std::vector<Token> whole = request.prompt.keys();
    whole.insert(whole.end(), answer.tokens.begin(), answer.tokens.end());
    if (static_cast<int>(whole.size()) < longest_) seen_.push_back(std::move(whole));
    seen_.push_back(request.prompt.keys());
  }

  const std::shared_ptr<model::Model> loaded_;
  const int longest_;
  const double deviation_;
  std::mt19937_64 random_;
  const std::unique_ptr<Engine> engine_;
  Cold cold_;
  std::vector<Token> words_;
  std::vector<std::vector<Token>> seen_;
  double worst_ = 0, sum_ = 0;
  int64_t compared_ = 0;
};

void CheckReuse(ReuseCheck check, int rounds) {
  for (int round = 0; round < rounds; ++round) ASSERT_NO_FATAL_FAILURE(check.Round(round));
  check.Totals();
}

TEST(RealModel, ReusedPrefixesGiveColdLogitsFullAttention) {
  CheckReuse({MakeTiny({.seed = 3}), 150, 256, HalfPrecisionNoise(216, 2), 1}, testing::InCi() ? 160 : 40);
}

TEST(RealModel, ReusedPrefixesGiveColdLogitsWindow) {
  CheckReuse({MakeTiny({.windowed = true, .window = 16, .seed = 4}), 150, 256, HalfPrecisionNoise(216, 6), 2},
             testing::InCi() ? 160 : 40);
}

TEST(RealModel, ReusedPrefixesGiveColdLogitsGemma) {
  const std::string path = RealModel("gemma-3-270m-q4_k_m.gguf");
  if (path.empty()) GTEST_SKIP() << "./dev setup models";
  auto loaded = model::Model::Load(path);
  ASSERT_TRUE(loaded.ok());
  CheckReuse({*loaded, 1400, 3072, EightBitNoise((*loaded)->facts().layers), 5}, testing::InCi() ? 5 : 2);
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

}  // namespace
}  // namespace headrace::engine
