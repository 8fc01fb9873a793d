// The embedder over the small real encoder, where it is installed.
#include "engine/embedder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "testing.h"
#include "tiny_model.h"

namespace headrace::engine {
namespace {

using testing::RealModel;

TEST(Embedder, MatchesTheReference) {
  const std::string path = RealModel("all-minilm-l6-v2-f16.gguf");
  if (path.empty()) GTEST_SKIP() << "./dev setup models";
  auto loaded = model::Model::Load(path);
  ASSERT_TRUE(loaded.ok());
  auto embedder = Embedder::Start(*loaded);
  ASSERT_TRUE(embedder.ok()) << embedder.status().ToString();
  std::vector<std::string> texts = {"a cat", "a kitten", "the stock exchange", ""};
  for (int i = 0; i < 40; ++i)
    texts.push_back(std::string(static_cast<size_t>(i * 9), 'x') + " words of text number " +
                    std::to_string(i));
  const auto together = (*embedder)->Embed(texts);
  ASSERT_TRUE(together.ok()) << together.status().ToString();
  ASSERT_EQ(together->width, 384);
  // Packing changes nothing: each text alone gives the same vector.
  for (size_t i = 0; i < texts.size(); i += 5) {
    const auto alone = (*embedder)->Embed({texts[i]});
    ASSERT_TRUE(alone.ok());
    double dot = 0;
    for (size_t j = 0; j < 384; ++j) dot += double{alone->values[j]} * together->values[i * 384 + j];
    EXPECT_NEAR(dot, 1.0, 1e-4) << i;
  }
  const auto cosine = [&](size_t a, size_t b) {
    double dot = 0;
    for (size_t j = 0; j < 384; ++j)
      dot += double{together->values[a * 384 + j]} * together->values[b * 384 + j];
    return dot;
  };
  EXPECT_GT(cosine(0, 1), 0.7);  // sentence-transformers gives 0.788
  EXPECT_LT(cosine(0, 2), 0.3);
  std::string endless;
  for (int i = 0; i < 2000; ++i) endless += "word ";
  EXPECT_NE((*embedder)->Embed({endless}).status().ToString().find(
                "text 0 has 2002 tokens; all-MiniLM-L6-v2 reads at most 512"),
            std::string::npos);
  EXPECT_TRUE((*embedder)->Embed({endless}, {.cut = -1}).ok());
  // Many callers at once.
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        const auto one = (*embedder)->Embed({texts[static_cast<size_t>(t)]});
        double dot = 0;
        for (size_t j = 0; one.ok() && j < 384; ++j)
          dot += double{one->values[j]} * together->values[static_cast<size_t>(t) * 384 + j];
        if (std::abs(dot - 1) > 1e-4) ++wrong;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

std::vector<std::vector<model::Token>> Many(const model::Model& model, int count, const std::string& word) {
  std::vector<std::vector<model::Token>> texts;
  for (int i = 0; i < count; ++i) {
    std::string text = std::to_string(i);
    for (int j = 0; j < 60; ++j) text += " " + word;
    texts.push_back(*model.Tokenize(text, true, false));
  }
  return texts;
}

class EmbedderCalls : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = RealModel("all-minilm-l6-v2-f16.gguf");
    if (path.empty()) GTEST_SKIP() << "./dev setup models";
    auto loaded = model::Model::Load(path);
    ASSERT_TRUE(loaded.ok());
    model_ = *loaded;
    auto started = Embedder::Start(model_);
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    embedder_ = std::move(*started);
  }
  // Submits; what it comes to is kept under its name, in the order of the ends.
  std::shared_ptr<Embedder::Call> Submit(const std::string& name,
                                         std::vector<std::vector<model::Token>> texts, EmbedOptions options) {
    auto call = embedder_->Submit(std::move(texts), options, [this, name](Result<Embeddings> made) {
      const std::lock_guard lock(mutex_);
      ends_.emplace_back(name, made.status());
      news_.notify_all();
    });
    EXPECT_TRUE(call.ok()) << call.status().ToString();
    return *call;
  }
  void WaitForEnds(size_t count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(news_.wait_for(lock, std::chrono::seconds(120), [&] { return ends_.size() >= count; }));
  }

  std::shared_ptr<model::Model> model_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::vector<std::pair<std::string, Status>> ends_;
  std::unique_ptr<Embedder> embedder_;  // ends first
};

// One key's long list does not keep another's text: it comes in the next turn.
TEST_F(EmbedderCalls, KeysTakeTurns) {
  Submit("long", Many(*model_, 400, "water"), {.key = "a"});
  Submit("short", Many(*model_, 1, "wheel"), {.key = "b"});
  WaitForEnds(2);
  EXPECT_EQ(ends_[0].first, "short");
  EXPECT_TRUE(ends_[0].second.ok() && ends_[1].second.ok());
}

TEST_F(EmbedderCalls, WhatIsCancelledIsNotComputed) {
  const auto call = Submit("gone", Many(*model_, 2000, "water"), {.key = "a"});
  embedder_->Cancel(call);
  Submit("stays", Many(*model_, 3, "wheel"), {.key = "a"});
  WaitForEnds(1);
  EXPECT_EQ(ends_[0].first, "stays");
  EXPECT_EQ(embedder_->waiting(), 0U);
  embedder_->Cancel(call);  // again: nothing
  EXPECT_EQ(ends_.size(), 1U);
}

TEST_F(EmbedderCalls, ADeadlineEndsWhatIsNotDone) {
  Submit("late", Many(*model_, 2000, "water"), {.key = "a", .timeout = 0.001});
  Submit("in time", Many(*model_, 3, "wheel"), {.key = "a", .timeout = 600});
  WaitForEnds(2);
  EXPECT_EQ(ends_[0].first, "late");
  EXPECT_TRUE(ends_[0].second.Is(Code::kTimeout)) << ends_[0].second.ToString();
  EXPECT_TRUE(ends_[1].second.ok());
}

TEST_F(EmbedderCalls, WhatWaitsAtTheEndIsTold) {
  Submit("waits", Many(*model_, 2000, "water"), {});
  embedder_.reset();
  ASSERT_EQ(ends_.size(), 1U);
  EXPECT_TRUE(ends_[0].second.Is(Code::kCancelled));
}

// Half precision turned to single once, at loading, tells the same as at each use.
TEST(Embedder, WideWeightsGiveTheSameVectors) {
  const std::string path = RealModel("all-minilm-l6-v2-f16.gguf");
  if (path.empty()) GTEST_SKIP() << "./dev setup models";
  const std::vector<std::string> texts = {"a cat", "water turns the wheel of a mill", ""};
  std::vector<Embeddings> both;
  std::vector<model::Facts> facts;
  for (const bool widen : {false, true}) {
    auto loaded = model::Model::Load(path, {.memory_map = true, .widen = widen});
    ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
    facts.push_back((*loaded)->facts());
#ifdef __x86_64__
    EXPECT_EQ((*loaded)->widened(), widen);
#endif
    auto embedder = Embedder::Start(*loaded);
    ASSERT_TRUE(embedder.ok()) << embedder.status().ToString();
    auto vectors = (*embedder)->Embed(texts);
    ASSERT_TRUE(vectors.ok());
    both.push_back(std::move(*vectors));
  }
  for (size_t i = 0; i < both[0].values.size(); ++i)
    ASSERT_NEAR(both[0].values[i], both[1].values[i], 2e-3) << i;
  EXPECT_EQ(facts[1].weight_bytes, facts[0].weight_bytes);  // of the file
  EXPECT_EQ(facts[1].quantization, "F16");
}

}  // namespace
}  // namespace headrace::engine
