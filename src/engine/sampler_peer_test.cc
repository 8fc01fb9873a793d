// DRY and XTC against llama.cpp's own samplers.
#include <gtest/gtest.h>
#include <llama.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "engine/sampler.h"
#include "model/model.h"
#include "testing.h"
#include "tiny_model.h"

namespace headrace::engine {
namespace {

class Words final : public Vocabulary {
 public:
  explicit Words(std::shared_ptr<model::Model> model) : model_(std::move(model)) {}
  std::string_view Piece(Token token) const override { return model_->Piece(token); }
  bool IsEnd(Token token) const override { return model_->IsEnd(token); }
  std::vector<Token> Tokenize(std::string_view text) const override {
    auto tokens = model_->Tokenize(text, false, false);
    return tokens.ok() ? *tokens : std::vector<Token>();
  }

 private:
  std::shared_ptr<model::Model> model_;
};

struct Peer {
  llama_model* model = nullptr;
  std::string path;
  explicit Peer(const std::string& name) : path(std::filesystem::temp_directory_path() / name) {
    testing::WriteTinyModel(path, {});
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    model = llama_model_load_from_file(path.c_str(), params);
  }
  ~Peer() {
    llama_model_free(model);
    std::filesystem::remove(path);
  }
};

std::vector<float> Apply(llama_sampler* sampler, std::vector<float> logits) {
  std::vector<llama_token_data> data;
  for (size_t i = 0; i < logits.size(); ++i) data.push_back({static_cast<llama_token>(i), logits[i], 0});
  llama_token_data_array array{data.data(), data.size(), -1, false};
  llama_sampler_apply(sampler, &array);
  for (float& logit : logits) logit = -INFINITY;
  for (size_t i = 0; i < array.size; ++i) logits[static_cast<size_t>(array.data[i].id)] = array.data[i].logit;
  return logits;
}

TEST(Dry, IsLlamas) {
  const Peer peer("headrace_dry_test_" + std::to_string(getpid()) + ".gguf");
  ASSERT_NE(peer.model, nullptr);
  auto loaded = model::Model::Load(peer.path);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  const Words words(*loaded);
  const int32_t size = (*loaded)->facts().vocabulary;
  std::mt19937 random(3);
  const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  for (int round = 0; round < 300; ++round) {
    Dry dry;
    dry.multiplier = 0.8F;
    dry.base = round % 4 == 0 ? 1.0F : 1.75F;
    dry.allowed_length = pick(0, 4);
    dry.last_n = round % 3 == 0 ? pick(1, 40) : 400;
    dry.breakers =
        round % 2 == 0 ? std::vector<std::string>{"q", "abx", "ba"} : std::vector<std::string>{"\n"};
    dry.tokens = std::make_shared<const DryBreakers>(FindDryBreakers(words, size, dry.breakers));
    std::vector<const char*> breakers;
    for (const std::string& breaker : dry.breakers) breakers.push_back(breaker.c_str());
    llama_sampler* theirs =
        llama_sampler_init_dry(llama_model_get_vocab(peer.model), dry.multiplier, dry.base,
                               dry.allowed_length, dry.last_n, breakers.data(), breakers.size());
    std::vector<Token> said;
    const int letters = pick(1, 4);  // few: much is repeated
    for (int i = pick(0, 200); i > 0; --i)
      said.push_back(round % 5 == 0 ? pick(259, size - 1) : 259 + pick(0, letters));
    for (const Token token : said) llama_sampler_accept(theirs, token);
    const std::vector<float> want = Apply(theirs, std::vector<float>(static_cast<size_t>(size), 0.0F));
    std::vector<float> got(static_cast<size_t>(size), 0.0F);
    PunishRepetition(dry, said, got);
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], want[i], 1e-3 * std::abs(want[i])) << "round " << round << ", token " << i;
    llama_sampler_free(theirs);
  }
}

TEST(Xtc, IsLlamas) {
  std::mt19937_64 random(4);
  std::normal_distribution<float> normal(0, 2);
  for (int round = 0; round < 40; ++round) {
    std::vector<float> logits(30);
    for (float& logit : logits) logit = normal(random);
    Sampling s;
    s.xtc_probability = 1;
    s.xtc_threshold = 0.02F * static_cast<float>(round % 20 + 1);
    s.seed = random();
    llama_sampler* theirs = llama_sampler_init_xtc(1, s.xtc_threshold, 1, 5);
    const std::vector<float> want = Apply(theirs, logits);
    llama_sampler_free(theirs);
    Sampler sampler(30);
    std::set<Token> got;
    for (uint64_t n = 0; n < 500; ++n) got.insert(sampler.Sample(logits, s, {}, {}, n));
    for (const Token token : got) EXPECT_TRUE(std::isfinite(want[static_cast<size_t>(token)])) << round;
    // The likeliest of what they keep is drawn within so many.
    const auto best = std::max_element(want.begin(), want.end()) - want.begin();
    EXPECT_TRUE(got.contains(static_cast<Token>(best))) << round;
  }
}

}  // namespace
}  // namespace headrace::engine
