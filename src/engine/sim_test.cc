// The simulator: Core under random loads, with a false model and a false clock. One scenario is one seed;
// HEADRACE_SIM_SEED=n runs that one alone.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "engine/core.h"
#include "engine/fake_decoder.h"

namespace headrace::engine {
namespace {

constexpr int32_t kVocabulary = 40;

struct Plan {  // one request of a scenario
  Request request;
  double arrives = 0, cancels = -1;
};

struct Outcome {
  std::string text;
  std::vector<Token> tokens;
  Finish finish = Finish::kNone;
  int ends = 0;
  Status error;
};

// The answer, worked out by hand: no engine, no cache.
Outcome Reference(const Request& request, int32_t context, bool loops) {
  Outcome outcome;
  const FakeVocabulary vocabulary(kVocabulary);
  Sampler sampler(kVocabulary);
  History history;
  if (request.prompt.empty()) return outcome;
  if (request.sampling.repetition_penalty != 1.0F) {
    history.prompt = request.prompt.keys();
    std::sort(history.prompt.begin(), history.prompt.end());
    history.prompt.erase(std::unique(history.prompt.begin(), history.prompt.end()), history.prompt.end());
  }
  TextOut text(request.stops, request.ignore_end ? std::vector<std::string>{} : request.turn_ends);
  std::vector<Token> said = request.prompt.keys();
  Sampling sampling = request.sampling;
  if (sampling.min_tokens > 0) {
    sampling.held = request.stop_tokens;
    sampling.held.push_back(0);
  }
  uint64_t hash = 0;
  for (const Token token : request.prompt.keys()) hash = FakeDecoder::Mix(hash, token, request.adapter);
  Token last = request.prompt.keys().back();
  const int32_t room = context - static_cast<int32_t>(request.prompt.size());
  const int32_t limit = request.max_tokens < 0 ? room : std::min(request.max_tokens, room);
  std::vector<float> logits(kVocabulary);
  for (uint64_t n = 0; static_cast<int32_t>(outcome.tokens.size()) < limit; ++n) {
    FakeDecoder::LogitsOf(loops ? FakeDecoder::Mix(7, last, request.adapter) : hash, &logits);
    history.said = said;
    history.begin = request.prompt.size();
    const Token token = sampler.Sample(logits, sampling, history, {}, n);
    if (vocabulary.IsEnd(token) && !request.ignore_end) {
      outcome.finish = Finish::kEnd;
      break;
    }
    if (std::count(request.stop_tokens.begin(), request.stop_tokens.end(), token) > 0) {
      outcome.finish = Finish::kStop;
      break;
    }
    outcome.tokens.push_back(token);
    said.push_back(token);
    history.Said(token);
    const bool free = static_cast<int32_t>(outcome.tokens.size()) > sampling.min_tokens;
    outcome.text += free ? text.Add(vocabulary.Piece(token)) : text.AddPlain(vocabulary.Piece(token));
    if (text.stopped() || text.turn_ended()) {
      outcome.finish = text.stopped() ? Finish::kStop : Finish::kEnd;
      return outcome;
    }
    hash = FakeDecoder::Mix(hash, token, request.adapter);
    last = token;
  }
  if (outcome.finish == Finish::kNone) outcome.finish = Finish::kLength;
  outcome.text += text.Finish();
  return outcome;
}

// One scenario: a machine, an engine's options and requests, all drawn from the seed; and what came of it.
class Scenario {
 public:
  explicit Scenario(uint64_t seed) : seed_(seed), random_(seed) {
    DrawMachine();
    decoder_ = std::make_unique<FakeDecoder>(facts_, &clock_, seed + 1);
    decoder_->loops = Chance(20);
    core_ = std::make_unique<Core>(decoder_.get(), &vocabulary_, options_, CostTable(facts_.threads, 1e-3),
                                   [this] { return clock_; });
    DrawPlans();
    fault_ = Chance(5);
    if (fault_) decoder_->fail_next = static_cast<int>(Pick(1, 60));
  }

  // What is wrong, or nothing.
  std::string Run() {
    if (std::string wrong = Compute(); !wrong.empty()) return wrong;
    for (size_t i = 0; i < plans_.size(); ++i)
      if (std::string wrong = Judge(plans_[i], outcomes_[i]); !wrong.empty())
        return "request " + std::to_string(i + 1) + " " + wrong;
    // To compare two builds: the same scenario, the same decisions.
    if (getenv("HEADRACE_SIM_DECISIONS") != nullptr)
      std::printf(
          "seed %llu decides %016llx in %lld steps, %lld preempted\n", static_cast<unsigned long long>(seed_),
          static_cast<unsigned long long>(decoder_->decisions), static_cast<long long>(decoder_->steps),
          static_cast<long long>(core_->stats().preemptions));
    return core_->stats().surprises != 0 ? "the ledger was wrong about free cells" : "";
  }

  void AddTo(CoreStats* totals) const {
    const CoreStats stats = core_->stats();
    totals->requests += stats.requests;
    totals->steps += stats.steps;
    totals->cached_tokens += stats.cached_tokens;
    totals->preemptions += stats.preemptions;
    totals->evictions += stats.evictions;
    totals->restores += stats.restores;
    totals->accepted += stats.accepted;
    totals->adapter_switches += stats.adapter_switches;
    totals->mixed_steps += stats.mixed_steps;
    totals->timed_out += stats.timed_out;
    totals->cancelled += stats.cancelled;
  }

 private:
  int64_t Pick(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }
  bool Chance(int percent) { return Pick(1, 100) <= percent; }
  Token AnyToken() { return static_cast<Token>(Pick(0, kVocabulary - 1)); }
  int32_t Context() const { return std::min(facts_.context, facts_.cells); }

  void DrawMachine() {
    facts_.vocabulary = kVocabulary;
    facts_.paths = static_cast<int32_t>(Pick(2, 12));
    facts_.cells = static_cast<int32_t>(Chance(50) ? Pick(60, 200) : Pick(200, 700));
    facts_.context = Chance(50) ? facts_.cells : static_cast<int32_t>(Pick(30, facts_.cells));
    facts_.max_rows = static_cast<int32_t>(Pick(4, 64));
    facts_.window = Chance(40) ? static_cast<int32_t>(Pick(4, 40)) : 0;
    facts_.threads = static_cast<int32_t>(Pick(1, 2));
    options_.slots = static_cast<int32_t>(Pick(1, 12));
    options_.light_slots = static_cast<int32_t>(Pick(0, 4));
    options_.queue = Chance(10) ? static_cast<int32_t>(Pick(1, 6)) : 1000;
    options_.max_gap = Chance(50) ? 0.004 : 0.05;
    options_.host_bytes = Chance(60) ? Pick(0, 16000) : 0;
    options_.expected_answer = Chance(60) ? 3 : 60;
    options_.lookup = Chance(70);
    options_.reuse = Chance(90);
    options_.machine.resident_cells = Chance(50) ? static_cast<int32_t>(Pick(0, 200)) : 8192;
    if (Chance(10)) {
      facts_.can_truncate = false;
      facts_.window = 0;
    }
    if (Chance(15)) {
      options_.deterministic = true;
      options_.grid = static_cast<int32_t>(Pick(2, 16));
      options_.host_bytes = 0;
      facts_.unified = false;
      facts_.window = 0;
      facts_.can_truncate = true;
      facts_.context = facts_.cells / facts_.paths;
      options_.slots = facts_.paths;
    }
    facts_.mixes_adapters = Chance(50);
  }

  void DrawPlans() {
    // Prompts share beginnings, as system prompts and conversations do.
    std::vector<std::vector<Token>> stems(static_cast<size_t>(Pick(1, 4)));
    for (auto& stem : stems)
      for (int64_t i = Pick(0, std::min<int64_t>(facts_.context, 150)); i > 0; --i)
        stem.push_back(AnyToken());
    plans_.resize(static_cast<size_t>(Pick(1, 30)));
    outcomes_.resize(plans_.size());
    jobs_.resize(plans_.size());
    double at = clock_;
    const double pace = Chance(50) ? 0.001 : 0.03;
    for (size_t i = 0; i < plans_.size(); ++i) {
      Plan& plan = plans_[i];
      std::vector<Token> prompt =
          DrawPrompt(stems[static_cast<size_t>(Pick(0, static_cast<int64_t>(stems.size()) - 1))]);
      if (Chance(30) && i > 0) {
        plan.request = plans_[static_cast<size_t>(Pick(0, static_cast<int64_t>(i) - 1))].request;
        prompt = FollowUp(plan.request);
      }
      plan.request.prompt = std::move(prompt);
      DrawSettings(&plan.request);
      at += pace * static_cast<double>(Chance(15) ? Pick(20, 200) : Pick(0, 10)) / 5;
      plan.arrives = at;
      if (Chance(10)) plan.cancels = at + static_cast<double>(Pick(0, 60)) * 1e-3;
    }
  }

  std::vector<Token> DrawPrompt(const std::vector<Token>& stem) {
    std::vector<Token> prompt(stem.begin(),
                              stem.begin() + (Chance(70) ? static_cast<int64_t>(stem.size())
                                                         : Pick(0, static_cast<int64_t>(stem.size()))));
    for (int64_t i = Pick(Chance(3) ? 0 : 1, 20); i > 0; --i) prompt.push_back(AnyToken());
    if (Chance(20) && prompt.size() > 6) {  // repeats itself: drafts
      const std::vector<Token> again(prompt.end() - 5, prompt.end());
      for (int i = 0; i < 3; ++i) prompt.insert(prompt.end(), again.begin(), again.end());
    }
    return prompt;
  }

  // Asks again with the answer in the prompt, as conversations do.
  std::vector<Token> FollowUp(const Request& earlier) {
    std::vector<Token> prompt = earlier.prompt.keys();
    if (prompt.empty()) return prompt;
    const Outcome said = Reference(earlier, Context(), decoder_->loops);
    prompt.insert(prompt.end(), said.tokens.begin(), said.tokens.end());
    if (Chance(50)) prompt.resize(static_cast<size_t>(Pick(1, static_cast<int64_t>(prompt.size()))));
    for (int64_t i = Pick(1, 10); i > 0; --i) prompt.push_back(AnyToken());
    return prompt;
  }

  void DrawSettings(Request* r) {
    r->max_tokens = Chance(10) ? -1 : static_cast<int32_t>(Pick(0, Chance(20) ? 150 : 60));
    r->sampling.temperature = Chance(40) ? 0.0F : 1.0F;
    r->sampling.top_p = Chance(50) ? 0.9F : 1.0F;
    r->sampling.top_k = Chance(20) ? 5 : 0;
    r->sampling.frequency_penalty = Chance(10) ? 0.5F : 0.0F;
    r->sampling.repetition_penalty = Chance(10) ? 1.2F : 1.0F;
    r->sampling.xtc_probability = Chance(10) ? 0.5F : 0.0F;
    if (Chance(10)) r->sampling.dry.multiplier = 3;
    if (Chance(10)) r->sampling.min_tokens = static_cast<int32_t>(Pick(1, 20));
    if (Chance(10)) r->stop_tokens = {static_cast<Token>(Pick(1, 5)), 7};
    if (Chance(10)) r->sampling.bad_words = {{3}, {4, 5}};
    r->sampling.seed = random_();
    if (Chance(15)) r->stops = {"B", "CD"};
    if (Chance(15)) r->turn_ends = {"DC", "AAA"};
    r->adapter = Chance(20) ? static_cast<int>(Pick(0, 2)) : -1;
    r->key = std::string(1, static_cast<char>('a' + Pick(0, 3)));
    r->scope = Chance(20) ? r->key : "";
    r->priority = Chance(10) ? static_cast<int>(Pick(-1, 1)) : 0;
    r->reuse = Chance(95);
    r->interactive = Chance(80);
    if (Chance(8)) r->timeout = static_cast<double>(Pick(1, 60)) * 1e-3;
  }

  // All requests, to the last one's end; cache and ledger are compared after each step.
  std::string Compute() {
    for (int64_t guard = 0; guard <= 200'000; ++guard) {
      while (arrived_ < plans_.size() && plans_[arrived_].arrives <= clock_) Arrive();
      for (size_t i = 0; i < arrived_; ++i)
        if (plans_[i].cancels >= 0 && clock_ >= plans_[i].cancels) jobs_[i]->cancel.Stop();
      const bool worked = core_->Step();
      if (std::string wrong = core_->Audit(); !wrong.empty()) return wrong;
      if (facts_.unified && core_->cache().cells() != decoder_->used_cells())
        return "the ledger has " + std::to_string(core_->cache().cells()) + " cells, the cache " +
               std::to_string(decoder_->used_cells());
      if (worked) continue;
      if (!core_->idle()) return "requests wait and nothing is done";
      if (arrived_ == plans_.size()) return "";
      clock_ = std::max(clock_, plans_[arrived_].arrives);
    }
    return "this does not end";
  }

  void Arrive() {
    auto job = std::make_shared<Job>();
    job->id = arrived_ + 1;
    job->request = plans_[arrived_].request;
    job->submitted = clock_;
    if (job->request.timeout > 0) job->deadline = clock_ + job->request.timeout;
    job->sink = [to = &outcomes_[arrived_]](Delta&& delta) {
      if (to->ends > 0) to->ends += 100;  // nothing may come after the end
      to->text += delta.text;
      for (const TokenOut& token : delta.tokens) to->tokens.push_back(token.token);
      if (delta.finish == Finish::kNone) return;
      ++to->ends;
      to->finish = delta.finish;
      to->error = delta.error;
    };
    jobs_[arrived_] = job;
    core_->Add(job);
    ++arrived_;
  }

  // One request's outcome beside the answer that was worked out by hand.
  std::string Judge(const Plan& plan, const Outcome& got) const {
    const Request& request = plan.request;
    if (got.ends != 1) return "ended " + std::to_string(got.ends) + " times";
    if (request.prompt.empty() || static_cast<int32_t>(request.prompt.size()) >= Context())
      return got.finish == Finish::kError ? "" : "should have been refused";
    if (got.finish == Finish::kError &&
        (got.error.Is(Code::kUnavailable) || (fault_ && got.error.Is(Code::kIo))))
      return "";
    const Outcome want = Reference(request, Context(), decoder_->loops);
    const bool cut = got.finish == Finish::kCancelled || got.finish == Finish::kTimeout;
    if (got.tokens.size() > want.tokens.size() ||
        !std::equal(got.tokens.begin(), got.tokens.end(), want.tokens.begin()))
      return "said other tokens than it must (" + std::to_string(got.tokens.size()) + " of " +
             std::to_string(want.tokens.size()) + ", " + std::string(FinishName(got.finish)) + ")";
    if (!cut &&
        (got.text != want.text || got.tokens.size() != want.tokens.size() || got.finish != want.finish))
      return "ended '" + std::string(FinishName(got.finish)) + "' after " +
             std::to_string(got.tokens.size()) + " tokens, must be '" + std::string(FinishName(want.finish)) +
             "' after " + std::to_string(want.tokens.size()) +
             (got.error.ok() ? "" : ": " + got.error.ToString());
    if (cut && plan.cancels < 0 && request.timeout <= 0) return "was cut off without being asked";
    return "";
  }

  const uint64_t seed_;
  std::mt19937_64 random_;
  double clock_ = 1000;
  model::DecoderFacts facts_;
  CoreOptions options_;
  const FakeVocabulary vocabulary_{kVocabulary};
  std::unique_ptr<FakeDecoder> decoder_;
  std::unique_ptr<Core> core_;
  std::vector<Plan> plans_;
  std::vector<Outcome> outcomes_;  // of each plan
  std::vector<std::shared_ptr<Job>> jobs_;
  size_t arrived_ = 0;  // so many of the plans
  bool fault_ = false;
};

std::string Simulate(uint64_t seed, CoreStats* totals) {
  Scenario scenario(seed);
  std::string wrong = scenario.Run();
  if (wrong.empty()) scenario.AddTo(totals);
  return wrong;
}

TEST(Simulator, ManyScenarios) {
  CoreStats totals;
  if (const char* one = getenv("HEADRACE_SIM_SEED"); one != nullptr) {
    EXPECT_EQ(Simulate(std::strtoull(one, nullptr, 10), &totals), "");
    return;
  }
  const auto set = [](const char* name) {
    const char* value = getenv(name);
    return value != nullptr && *value != '\0';
  };
  const int count = set("HEADRACE_TEST_SMALL")  ? 300
                    : set("HEADRACE_TEST_LONG") ? 2'000'000
                    : set("HEADRACE_TEST_CI")   ? 20'000
                                                : 3'000;
  int failures = 0;
  for (int seed = 1; seed <= count && failures < 3; ++seed) {
    const std::string wrong = Simulate(static_cast<uint64_t>(seed), &totals);
    if (!wrong.empty()) {
      ADD_FAILURE() << wrong << "\n  again: HEADRACE_SIM_SEED=" << seed
                    << " engine_test --gtest_filter=Simulator.*";
      ++failures;
    }
  }
  // A simulator that never meets what it is for proves nothing.
  EXPECT_GT(totals.cached_tokens, count * 10);
  EXPECT_GT(totals.preemptions, count / 10);
  EXPECT_GT(totals.evictions, count / 10);
  EXPECT_GT(totals.restores, count / 50);
  EXPECT_GT(totals.accepted, count / 10);
  EXPECT_GT(totals.timed_out, count / 10);
  EXPECT_GT(totals.cancelled, count / 10);
  EXPECT_GT(totals.adapter_switches, count / 10);
  EXPECT_GT(totals.mixed_steps, count / 10);
}

}  // namespace
}  // namespace headrace::engine
