// Core: the engine without threads. `Step()` is plan → rows → compute → results → deliver; everything between
// two steps is state in this class, so a simulator with a false model and a false clock drives it exactly as
// the engine's compute thread does.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "engine/admit.h"
#include "engine/cost_table.h"
#include "engine/deadline.h"
#include "engine/drawer.h"
#include "engine/fair.h"
#include "engine/grammar.h"
#include "engine/kv_cache.h"
#include "engine/machine_profile.h"
#include "engine/request.h"
#include "engine/schedule.h"
#include "engine/speculate.h"
#include "engine/text_out.h"
#include "engine/vocabulary.h"
#include "model/decoder.h"

namespace headrace::engine {

struct CoreOptions {
  int32_t slots = 32;          // requests that run at once
  int32_t light_slots = 4;     // and so many more of light keys (MachineProfile::light_ratio): places that a
                               // busy key cannot fill
  int32_t queue = 1024;        // requests that wait; more are refused
  double max_gap = 0;          // --max-itl, seconds; 0: by the machine (WatchedRows)
  bool deterministic = false;  // one sequence a step, a fixed grid: text does not depend on load
  int32_t grid = 128;          // of deterministic chunks
  // Of the host cache, where none is given: evicted prefixes and the state of preempted requests.
  int64_t host_bytes = 1LL << 30;
  std::shared_ptr<HostCache> host;  // shared with other engines; null: one of its own
  // Whose states can be exchanged: a number of the weights, and one of each adapter. See CacheSpace.
  uint64_t weights = 0;
  std::vector<uint64_t> adapters;
  MachineProfile machine;
  double expected_answer = 192;  // tokens, until answers were seen
  int32_t draw_threads = 1;      // that sample; logits of several rows must stay valid together above 1
  bool lookup = true;            // speculation
  bool reuse = true;
  bool jump = true;  // what a grammar leaves no choice about is given without asking the model
};

struct CoreStats {
  int64_t requests = 0, finished = 0, refused = 0, cancelled = 0, timed_out = 0, failed = 0;
  int64_t steps = 0, rows = 0, prefill_rows = 0, decode_rows = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, answer_tokens = 0;
  int64_t drafted = 0, accepted = 0, forced = 0;
  int64_t evictions = 0, preemptions = 0, restores = 0, adapter_switches = 0, mixed_steps = 0, surprises = 0;
  int64_t cells = 0, cells_used = 0, paths_cached = 0, running = 0, waiting = 0;
  int64_t host_bytes = 0;  // of the host cache, by all engines that share it; models apart
  double decode_seconds = 0, sample_seconds = 0, step_seconds = 0;
};

// One request's life, from submission to its last delta.
struct Job {
  uint64_t id = 0;
  Request request;
  Sink sink;
  std::shared_ptr<const CompiledGrammar> grammar;
  StopSource cancel;  // by whoever asked
  double submitted = 0;
  double deadline = 0;  // 0: none

  // The compute thread's from here on.
  std::vector<Token> tokens;  // prompt and answer
  int32_t limit = 0;          // tokens of the answer at most
  int32_t scored = 0;         // tokens of the prompt whose log-probabilities were given
  int32_t computed = 0;       // tokens in its path
  int32_t committed = 0;      // tokens of the answer that were decided
  int path = -1;
  double started = 0, first_token = 0, last_row = 0;
  double charged = 0;
  std::unique_ptr<Matcher> matcher;
  History history;
  Lookup lookup;
  TextOut text{{}};
  Usage usage;
  uint64_t sampled = 0;                     // random numbers used
  std::optional<PreemptedState> preempted;  // of its path, while it has none
  Delta out;                                // gathered during a step

  // Tokens that are not in its path yet.
  int32_t pending() const { return static_cast<int32_t>(tokens.size()) - computed; }
  // Whether the row at this position says how likely the prompt's next token is, and somebody asked.
  bool WantsScore(int32_t position) const {
    return request.prompt_logprobs >= 0 && position >= scored && position + 1 < usage.prompt_tokens;
  }
};

class Core {
 public:
  using Clock = std::function<double()>;
  Core(model::Decoder* decoder, const Vocabulary* vocabulary, const CoreOptions& options,
       const CostTable& costs, Clock clock);
  ~Core();

  // Takes a request in. Errors (a prompt that does not fit, a full queue) are delivered as its only delta.
  void Add(std::shared_ptr<Job> job);
  // One step. False where there was nothing to do.
  bool Step();
  bool idle() const { return running_.empty() && waiting_.empty(); }
  // Ends every request with this error (shutdown). `save`: cached prefixes go to the host cache.
  void Abort(const Status& why, bool save);

  CoreStats stats() const;
  const CostTable& costs() const { return costs_; }
  const KvCache& cache() const { return cache_; }
  Fair& fair() { return fair_; }
  // Checks what must hold between steps; "" or what does not.
  std::string Audit() const;

 private:
  // core_admit.cc
  uint64_t SpaceOf(const Request& request) const;
  void EndExpired();
  void BeginWaiting();
  KvCache::PrefixMatch MatchPrefix(const Job& job) const;
  bool MayReuse(const Job& job) const;
  bool BeingComputed(const Job& job, int32_t have) const;
  int64_t CellsFor(const Job& job, const KvCache::PrefixMatch& match) const;
  bool MayBegin(const Job& job) const;
  bool HasSlot(const Job& job) const;
  int32_t RunningOf(const std::string& key) const;
  bool TooManyRun(const Job& job) const;
  bool InTime(const Job& job, int32_t cached) const;
  bool CannotBeInTime(const Job& job, double now) const;
  // `least`: the shortest answer that it may have, not the one that is expected.
  Timed TimedOf(const Job& job, int32_t cached, bool least) const;
  bool BeginJob(const std::shared_ptr<Job>& job);
  std::shared_ptr<Job> PreemptOne();
  void Finish(const std::shared_ptr<Job>& job, engine::Finish how, Status error = Status::Ok());

  // core.cc: from a plan to its rows.
  struct Part {  // one request's rows in a step
    std::shared_ptr<Job> job;
    int32_t rows = 0;          // of its tokens that are not computed yet
    std::vector<Token> draft;  // computed behind them, on trial
    int first_row = 0;         // of the step's
    bool samples = false;      // its last token is among the rows: its answer goes on

    int32_t all_rows() const { return rows + static_cast<int32_t>(draft.size()); }
    int last_row() const { return first_row + rows - 1; }
  };
  using Plan = std::vector<Part>;
  struct Rows {  // what the decoder is given
    std::vector<model::Row> rows;
    StepShape shape;
  };
  int32_t ResidentCells() const;
  Plan MakePlan(double now);
  std::vector<Candidate> Survey(double now) const;
  std::vector<std::vector<Token>> ProposeDrafts(std::vector<Candidate>* candidates);
  bool ChooseAlternate(const std::vector<Candidate>& candidates, int adapter);
  bool FitIntoCache(Plan* plan);
  Rows RowsOf(Plan* plan);
  Status Compute(const Plan& plan, const Rows& step);
  void GiveUp(const Plan& plan, const Status& why);

  // core_results.cc: from a step's rows to what its requests are told.
  void TakeResults(const Plan& plan, double now);
  std::vector<Draw> DrawTogether(const Plan& plan);
  // `drawn`: the first row's token, where it is known already.
  void Sample(const Part& part, double now, const Draw* drawn);
  void VerifyDraft(const Part& part);
  Draw DrawOf(Job& job, int row);
  void ScorePrompt(const Part& part);
  bool TakeToken(Job& job, Token token, std::span<const float> logits, bool forced);
  void TakeForced(Job& job);
  Usage UsageNow(const Job& job) const;
  void Deliver();

  model::Decoder* decoder_;
  const Vocabulary* vocabulary_;
  CoreOptions options_;
  CostTable costs_;
  Clock clock_;
  model::DecoderFacts facts_;
  std::vector<Token> ends_;  // the vocabulary's
  ScheduleLimits limits_;
  KvCache cache_;
  Fair fair_;
  Admit admit_;
  AdapterTurn turn_;
  Drawer drawer_;
  std::map<uint64_t, std::shared_ptr<Job>> running_, waiting_;
  int adapter_ = -1;
  CoreStats stats_;
};

}  // namespace headrace::engine
