#include "engine_raw.h"

#include <llama.h>

#include <algorithm>

#include "base/clock.h"
#include "engine/engine.h"

namespace headrace::bench {
namespace {

constexpr int kCells = 4096, kTokens = 48;

// llama.cpp as its examples drive it: one batch a step, its greedy sampler.
class Raw {
 public:
  Raw(const std::shared_ptr<model::Model>& model, int threads) : vocabulary_(model->facts().vocabulary) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = kCells;
    params.n_batch = params.n_ubatch = 512;
    params.n_seq_max = 8;
    params.n_threads = params.n_threads_batch = threads;
    params.kv_unified = true;
    params.swa_full = true;
    params.no_perf = true;
    context_ = llama_init_from_model(model->handle(), params);
    batch_ = llama_batch_init(512, 0, 1);
    sampler_ = llama_sampler_init_greedy();
  }
  ~Raw() {
    llama_sampler_free(sampler_);
    llama_batch_free(batch_);
    llama_free(context_);
  }
  void Add(model::Token token, int position, int sequence, bool output) {
    const int i = batch_.n_tokens++;
    batch_.token[i] = token;
    batch_.pos[i] = position;
    batch_.n_seq_id[i] = 1;
    batch_.seq_id[i][0] = sequence;
    batch_.logits[i] = output ? 1 : 0;
  }
  double Decode(int streams, const std::vector<model::Token>& prompt) {
    llama_memory_clear(llama_get_memory(context_), false);
    std::vector<model::Token> last(static_cast<size_t>(streams));
    batch_.n_tokens = 0;
    for (int s = 0; s < streams; ++s)
      for (size_t i = 0; i < prompt.size(); ++i)
        Add(prompt[i], static_cast<int>(i), s, i + 1 == prompt.size());
    llama_decode(context_, batch_);
    for (int s = 0; s < streams; ++s)
      last[static_cast<size_t>(s)] =
          llama_sampler_sample(sampler_, context_, static_cast<int>(prompt.size()) * (s + 1) - 1);
    const double start = MonotonicSeconds();
    for (int step = 0; step < kTokens; ++step) {
      batch_.n_tokens = 0;
      for (int s = 0; s < streams; ++s)
        Add(last[static_cast<size_t>(s)], static_cast<int>(prompt.size()) + step, s, true);
      llama_decode(context_, batch_);
      for (int s = 0; s < streams; ++s)
        last[static_cast<size_t>(s)] = llama_sampler_sample(sampler_, context_, s);
    }
    return streams * kTokens / (MonotonicSeconds() - start);
  }
  double Prefill(const std::vector<model::Token>& prompt) {
    llama_memory_clear(llama_get_memory(context_), false);
    const double start = MonotonicSeconds();
    for (size_t at = 0; at < prompt.size(); at += 512) {
      batch_.n_tokens = 0;
      for (size_t i = at; i < std::min(prompt.size(), at + 512); ++i)
        Add(prompt[i], static_cast<int>(i), 0, i + 1 == prompt.size());
      llama_decode(context_, batch_);
    }
    llama_sampler_sample(sampler_, context_, -1);
    return static_cast<double>(prompt.size()) / (MonotonicSeconds() - start);
  }

 private:
  int vocabulary_;
  llama_context* context_;
  llama_batch batch_;
  llama_sampler* sampler_;
};

}  // namespace

nlohmann::json RawPairs(const std::shared_ptr<model::Model>& model, int pairs, int threads) {
  Raw raw(model, threads);
  engine::EngineOptions options;
  options.decoder.cells = kCells;
  options.decoder.threads = threads;
  auto engine = engine::Engine::Start(model, options);
  if (!engine.ok()) return {{"error", engine.status().ToString()}};
  std::vector<model::Token> prompt, longer;
  for (int i = 0; i < 40; ++i) prompt.push_back(1000 + i * 7);
  for (int i = 0; i < 1024; ++i) longer.push_back(1000 + i * 3);
  const auto ours = [&](int streams) {
    std::vector<std::shared_ptr<engine::Stream>> answers;
    for (int s = 0; s < streams; ++s) {
      engine::Request r;
      r.prompt = prompt;
      r.max_tokens = kTokens + 1;
      r.ignore_end = true;
      r.sampling.temperature = 0;
      r.lookup = false;
      r.reuse = false;
      answers.push_back(*(*engine)->Submit(r));
    }
    double start = 0;
    int64_t tokens = 0;
    for (auto& answer : answers)
      while (auto delta = answer->Next()) {
        if (start == 0 && !delta->tokens.empty()) start = MonotonicSeconds();
        tokens += static_cast<int64_t>(delta->tokens.size());
      }
    return static_cast<double>(tokens - streams) / (MonotonicSeconds() - start);
  };
  const auto ours_prefill = [&] {
    engine::Request r;
    r.prompt = longer;
    r.max_tokens = 1;
    r.sampling.temperature = 0;
    r.reuse = false;
    const double start = MonotonicSeconds();
    const auto answer = *(*engine)->Submit(r);
    while (answer->Next()) {
    }
    return static_cast<double>(longer.size()) / (MonotonicSeconds() - start);
  };
  nlohmann::json out;
  for (int warm = 0; warm < 3; ++warm) {
    raw.Decode(8, prompt);
    ours(8);
    ours(1);
  }
  for (int pair = 0; pair < pairs; ++pair) {
    const auto both = [&](const char* name, auto our, auto their) {
      double a = 0, b = 0;
      if (pair % 2 == 0) {
        a = our();
        b = their();
      } else {
        b = their();
        a = our();
      }
      out[name].push_back({a, b});
    };
    both(
        "decode1", [&] { return ours(1); }, [&] { return raw.Decode(1, prompt); });
    both(
        "decode8", [&] { return ours(8); }, [&] { return raw.Decode(8, prompt); });
    both("prefill", ours_prefill, [&] { return raw.Prefill(longer); });
  }
  return out;
}

}  // namespace headrace::bench
