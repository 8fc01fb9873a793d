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

std::string Simulate(uint64_t seed, CoreStats* totals) {
  std::mt19937_64 random(seed);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const auto chance = [&](int percent) { return pick(1, 100) <= percent; };

  model::DecoderFacts facts;
  facts.vocabulary = kVocabulary;
  facts.paths = static_cast<int32_t>(pick(2, 12));
  facts.cells = static_cast<int32_t>(chance(50) ? pick(60, 200) : pick(200, 700));
  facts.context = chance(50) ? facts.cells : static_cast<int32_t>(pick(30, facts.cells));
  facts.max_rows = static_cast<int32_t>(pick(4, 64));
  facts.window = chance(40) ? static_cast<int32_t>(pick(4, 40)) : 0;
  facts.threads = static_cast<int32_t>(pick(1, 2));
  CoreOptions options;
  options.slots = static_cast<int32_t>(pick(1, 12));
  options.light_slots = static_cast<int32_t>(pick(0, 4));
  options.queue = chance(10) ? static_cast<int32_t>(pick(1, 6)) : 1000;
  options.max_gap = chance(50) ? 0.004 : 0.05;
  options.host_bytes = chance(60) ? pick(0, 16000) : 0;
  options.expected_answer = chance(60) ? 3 : 60;
  options.lookup = chance(70);
  options.reuse = chance(90);
  options.machine.resident_cells = chance(50) ? static_cast<int32_t>(pick(0, 200)) : 8192;
  if (chance(10)) {
    facts.can_truncate = false;
    facts.window = 0;
  }
  if (chance(15)) {
    options.deterministic = true;
    options.grid = static_cast<int32_t>(pick(2, 16));
    options.host_bytes = 0;
    facts.unified = false;
    facts.window = 0;
    facts.can_truncate = true;
    facts.context = facts.cells / facts.paths;
    options.slots = facts.paths;
  }
  facts.mixes_adapters = chance(50);
  double clock = 1000;
  FakeDecoder decoder(facts, &clock, seed + 1);
  decoder.loops = chance(20);
  const FakeVocabulary vocabulary(kVocabulary);
  Core core(&decoder, &vocabulary, options, CostTable(facts.threads, 1e-3), [&clock] { return clock; });

  // Prompts share beginnings, as system prompts and conversations do.
  std::vector<std::vector<Token>> stems(static_cast<size_t>(pick(1, 4)));
  for (auto& stem : stems)
    for (int64_t i = pick(0, std::min<int64_t>(facts.context, 150)); i > 0; --i)
      stem.push_back(static_cast<Token>(pick(0, kVocabulary - 1)));
  std::vector<Plan> plans(static_cast<size_t>(pick(1, 30)));
  double at = clock;
  const double pace = chance(50) ? 0.001 : 0.03;
  for (Plan& plan : plans) {
    Request& r = plan.request;
    const auto& stem = stems[static_cast<size_t>(pick(0, static_cast<int64_t>(stems.size()) - 1))];
    std::vector<Token> prompt(stem.begin(),
                              stem.begin() + (chance(70) ? static_cast<int64_t>(stem.size())
                                                         : pick(0, static_cast<int64_t>(stem.size()))));
    for (int64_t i = pick(chance(3) ? 0 : 1, 20); i > 0; --i)
      prompt.push_back(static_cast<Token>(pick(0, kVocabulary - 1)));
    if (chance(20) && prompt.size() > 6) {  // repeats itself: drafts
      const std::vector<Token> again(prompt.end() - 5, prompt.end());
      for (int i = 0; i < 3; ++i) prompt.insert(prompt.end(), again.begin(), again.end());
    }
    // Some ask again with the answer in the prompt, as conversations do.
    if (chance(30) && &plan != &plans.front()) {
      const Request& earlier = plans[static_cast<size_t>(pick(0, &plan - &plans.front() - 1))].request;
      r = earlier;
      prompt = r.prompt.keys();
      if (!prompt.empty()) {
        const Outcome said = Reference(earlier, std::min(facts.context, facts.cells), decoder.loops);
        prompt.insert(prompt.end(), said.tokens.begin(), said.tokens.end());
        if (chance(50)) prompt.resize(static_cast<size_t>(pick(1, static_cast<int64_t>(prompt.size()))));
        for (int64_t i = pick(1, 10); i > 0; --i)
          prompt.push_back(static_cast<Token>(pick(0, kVocabulary - 1)));
      }
    }
    r.prompt = std::move(prompt);
    r.max_tokens = chance(10) ? -1 : static_cast<int32_t>(pick(0, chance(20) ? 150 : 60));
    r.sampling.temperature = chance(40) ? 0.0F : 1.0F;
    r.sampling.top_p = chance(50) ? 0.9F : 1.0F;
    r.sampling.top_k = chance(20) ? 5 : 0;
    r.sampling.frequency_penalty = chance(10) ? 0.5F : 0.0F;
    r.sampling.repetition_penalty = chance(10) ? 1.2F : 1.0F;
    r.sampling.xtc_probability = chance(10) ? 0.5F : 0.0F;
    if (chance(10)) r.sampling.dry.multiplier = 3;
    if (chance(10)) r.sampling.min_tokens = static_cast<int32_t>(pick(1, 20));
    if (chance(10)) r.stop_tokens = {static_cast<Token>(pick(1, 5)), 7};
    if (chance(10)) r.sampling.bad_words = {{3}, {4, 5}};
    r.sampling.seed = random();
    if (chance(15)) r.stops = {"B", "CD"};
    if (chance(15)) r.turn_ends = {"DC", "AAA"};
    r.adapter = chance(20) ? static_cast<int>(pick(0, 2)) : -1;
    r.key = std::string(1, static_cast<char>('a' + pick(0, 3)));
    r.scope = chance(20) ? r.key : "";
    r.priority = chance(10) ? static_cast<int>(pick(-1, 1)) : 0;
    r.reuse = chance(95);
    r.interactive = chance(80);
    if (chance(8)) r.timeout = static_cast<double>(pick(1, 60)) * 1e-3;
    at += pace * static_cast<double>(chance(15) ? pick(20, 200) : pick(0, 10)) / 5;
    plan.arrives = at;
    if (chance(10)) plan.cancels = at + static_cast<double>(pick(0, 60)) * 1e-3;
  }
  const bool fault = chance(5);
  if (fault) decoder.fail_next = static_cast<int>(pick(1, 60));

  std::vector<Outcome> outcomes(plans.size());
  std::vector<std::shared_ptr<Job>> jobs(plans.size());
  size_t next = 0;
  int64_t guard = 0;
  for (;;) {
    while (next < plans.size() && plans[next].arrives <= clock) {
      auto job = std::make_shared<Job>();
      job->id = next + 1;
      job->request = plans[next].request;
      job->submitted = clock;
      if (job->request.timeout > 0) job->deadline = clock + job->request.timeout;
      Outcome* to = &outcomes[next];
      job->sink = [to](Delta&& delta) {
        if (to->ends > 0) to->ends += 100;  // nothing may come after the end
        to->text += delta.text;
        for (const TokenOut& token : delta.tokens) to->tokens.push_back(token.token);
        if (delta.finish != Finish::kNone) {
          ++to->ends;
          to->finish = delta.finish;
          to->error = delta.error;
        }
      };
      jobs[next] = job;
      core.Add(job);
      ++next;
    }
    for (size_t i = 0; i < next; ++i)
      if (plans[i].cancels >= 0 && clock >= plans[i].cancels) jobs[i]->cancelled = true;
    const bool worked = core.Step();
    if (const std::string wrong = core.Audit(); !wrong.empty()) return wrong;
    if (facts.unified && core.cache().cells() != decoder.used_cells())
      return "the ledger has " + std::to_string(core.cache().cells()) + " cells, the cache " +
             std::to_string(decoder.used_cells());
    if (!worked) {
      if (next == plans.size() && core.idle()) break;
      if (!core.idle()) return "requests wait and nothing is done";
      clock = std::max(clock, plans[next].arrives);
    }
    if (++guard > 200'000) return "this does not end";
  }
  for (size_t i = 0; i < plans.size(); ++i) {
    const Outcome& got = outcomes[i];
    const Request& request = plans[i].request;
    const std::string who = "request " + std::to_string(i + 1) + " ";
    if (got.ends != 1) return who + "ended " + std::to_string(got.ends) + " times";
    if (request.prompt.empty() ||
        static_cast<int32_t>(request.prompt.size()) >= std::min(facts.context, facts.cells)) {
      if (got.finish != Finish::kError) return who + "should have been refused";
      continue;
    }
    if (got.finish == Finish::kError &&
        (got.error.Is(Code::kUnavailable) || (fault && got.error.Is(Code::kIo))))
      continue;
    const Outcome want = Reference(request, std::min(facts.context, facts.cells), decoder.loops);
    const bool cut = got.finish == Finish::kCancelled || got.finish == Finish::kTimeout;
    if (got.tokens.size() > want.tokens.size() ||
        !std::equal(got.tokens.begin(), got.tokens.end(), want.tokens.begin()))
      return who + "said other tokens than it must (" + std::to_string(got.tokens.size()) + " of " +
             std::to_string(want.tokens.size()) + ", " + std::string(FinishName(got.finish)) + ")";
    if (!cut &&
        (got.text != want.text || got.tokens.size() != want.tokens.size() || got.finish != want.finish))
      return who + "ended '" + std::string(FinishName(got.finish)) + "' after " +
             std::to_string(got.tokens.size()) + " tokens, must be '" + std::string(FinishName(want.finish)) +
             "' after " + std::to_string(want.tokens.size()) +
             (got.error.ok() ? "" : ": " + got.error.ToString());
    if (cut && plans[i].cancels < 0 && request.timeout <= 0) return who + "was cut off without being asked";
  }
  // To compare two builds: the same scenario, the same decisions.
  if (getenv("HEADRACE_SIM_DECISIONS") != nullptr)
    std::printf("seed %llu decides %016llx in %lld steps, %lld preempted\n",
                static_cast<unsigned long long>(seed), static_cast<unsigned long long>(decoder.decisions),
                static_cast<long long>(decoder.steps), static_cast<long long>(core.stats().preemptions));
  const CoreStats stats = core.stats();
  if (stats.surprises != 0) return "the ledger was wrong about free cells";
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
  return "";
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
