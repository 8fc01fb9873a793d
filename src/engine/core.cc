// Core: one step.
#include "engine/core.h"

#include <algorithm>

#include "base/check.h"

namespace headrace::engine {
namespace {

KvCacheOptions CacheOptions(const CoreOptions& options, const model::DecoderFacts& facts) {
  KvCacheOptions cache;
  cache.grid = options.deterministic ? options.grid : 0;
  cache.least_saved = options.machine.least_saved;
  cache.least_kept = options.machine.least_kept;
  cache.cut_idle = options.deterministic && facts.paths <= options.slots;
  return cache;
}

}  // namespace

Core::Core(model::Decoder* decoder, const Vocabulary* vocabulary, const CoreOptions& options,
           const CostTable& costs, Clock clock)
    : decoder_(decoder),
      vocabulary_(vocabulary),
      options_(options),
      costs_(costs),
      clock_(std::move(clock)),
      facts_(decoder->facts()),
      cache_(decoder, CacheOptions(options, facts_),
             options.host ? options.host : HostCache::Make({.cache = options.host_bytes})),
      fair_(options_.machine.fair_quantum),
      admit_(options_.expected_answer),
      turn_(options_.machine.adapter_steps),
      drawer_(facts_.vocabulary, options.draw_threads) {
  for (Token token = 0; token < facts_.vocabulary; ++token)
    if (vocabulary_->IsEnd(token)) ends_.push_back(token);
  limits_.machine = options_.machine;
  limits_.max_rows = facts_.max_rows;
  limits_.max_gap = options_.max_gap;
  limits_.grid = options_.deterministic ? options_.grid : 0;
  options_.slots = std::min(options_.slots, facts_.paths);
  options_.light_slots =
      options_.deterministic ? 0 : std::min(options_.light_slots, facts_.paths - options_.slots);
  if (options_.deterministic) options_.lookup = false;
  if (!facts_.can_truncate) options_.lookup = false;
}

Core::~Core() = default;

CoreStats Core::stats() const {
  CoreStats stats = stats_;
  stats.cells = facts_.cells;
  stats.cells_used = cache_.cells();
  stats.paths_cached = cache_.idle_paths();
  stats.evictions = cache_.evictions();
  stats.running = static_cast<int64_t>(running_.size());
  stats.waiting = static_cast<int64_t>(waiting_.size());
  stats.host_bytes = cache_.host().used();
  return stats;
}

// Idle cells that stay beside those that run.
int32_t Core::ResidentCells() const {
  const MachineProfile& machine = options_.machine;
  const bool many = static_cast<int32_t>(running_.size()) >= machine.many_running;
  return many ? machine.resident_cells / 4 : machine.resident_cells;
}

// Requests that are over end, those that can begin. Then the step: it is planned once, cut to the cells that
// there are, its rows are computed, and what they say is handed out.
bool Core::Step() {
  EndExpired();
  BeginWaiting();
  if (running_.empty()) return false;
  cache_.OffloadIdle(ResidentCells());
  const double now = clock_();
  Plan plan = MakePlan(now);
  if (!FitIntoCache(&plan)) return true;
  const Rows rows = RowsOf(&plan);
  if (const Status status = Compute(plan, rows); !status.ok()) {
    GiveUp(plan, status);
    return true;
  }
  TakeResults(plan, now);
  Deliver();
  stats_.step_seconds += clock_() - now;
  return true;
}

// ---------------------------------------------------------------- the plan

Core::Plan Core::MakePlan(double now) {
  std::vector<Candidate> candidates = Survey(now);
  std::vector<std::vector<Token>> drafts = ProposeDrafts(&candidates);
  const int adapter = turn_.Next(candidates);
  if (adapter != adapter_) ++stats_.adapter_switches;
  adapter_ = adapter;
  ScheduleLimits limits = limits_;
  limits.alternate = ChooseAlternate(candidates, adapter);
  std::vector<std::shared_ptr<Job>> jobs;  // by slot
  for (const auto& [id, job] : running_) jobs.push_back(job);
  Plan plan;
  for (const Scheduled& scheduled : Schedule(candidates, adapter, limits, costs_, facts_.threads)) {
    const auto slot = static_cast<size_t>(scheduled.slot);
    Part part;
    part.job = jobs[slot];
    part.rows = std::min(scheduled.rows, part.job->pending());
    part.samples = part.rows == part.job->pending();
    drafts[slot].resize(static_cast<size_t>(scheduled.rows - part.rows));
    part.draft = std::move(drafts[slot]);
    plan.push_back(std::move(part));
  }
  HEADRACE_CHECK(!plan.empty());
  return plan;
}

// What each running request could compute now, in the order of their ids: a request's place is its slot.
std::vector<Candidate> Core::Survey(double now) const {
  std::vector<Candidate> candidates;
  std::map<std::string_view, int32_t> running_of;
  for (const auto& [id, job] : running_) ++running_of[job->request.key];
  for (const auto& [id, job] : running_) {
    Candidate c;
    c.key_running = running_of[job->request.key];
    c.just_begun = job->last_row == job->started;
    c.slot = static_cast<int>(candidates.size());
    c.adapter = facts_.mixes_adapters ? -1 : job->request.adapter;
    c.position = job->computed;
    c.waited = now - job->last_row;
    c.interactive = job->request.interactive;
    const int32_t pending = job->pending();
    if (job->committed > 0 && pending <= options_.machine.most_forced) {
      c.decode_rows = options_.deterministic ? 1 : pending;
    } else {
      c.prefill_left =
          job->request.prompt_logprobs >= 0 ? std::min(pending, options_.machine.scored_rows) : pending;
    }
    candidates.push_back(c);
  }
  return candidates;
}

// Drafts of those whose rows they are worth, by slot; their rows are added to the candidates'.
std::vector<std::vector<Token>> Core::ProposeDrafts(std::vector<Candidate>* candidates) {
  std::vector<std::vector<Token>> drafts(candidates->size());
  if (!options_.lookup) return drafts;
  StepShape decoding;
  for (const Candidate& c : *candidates) {
    if (c.decode_rows == 0) continue;
    decoding.rows += c.decode_rows;
    decoding.outputs += 1;
    decoding.attended += static_cast<int64_t>(c.decode_rows) * c.position;
  }
  auto at = candidates->begin();
  for (const auto& [id, job] : running_) {
    Candidate& c = *at++;
    if (c.decode_rows != 1 || !job->request.lookup || job->matcher) continue;
    const int32_t left =
        std::min(job->limit - job->committed, facts_.context - static_cast<int32_t>(job->tokens.size())) - 1;
    if (left < 1) continue;
    job->lookup.Extend(job->tokens);
    std::vector<Token> draft = job->lookup.Draft(job->tokens, std::min(left, options_.machine.most_draft));
    if (draft.empty()) continue;
    if (job->lookup.resting()) {
      job->lookup.Rest();
      continue;
    }
    StepShape others = decoding;
    others.rows -= 1;
    others.outputs -= 1;
    others.attended -= job->computed;
    const int32_t worth = job->lookup.Worth(costs_, others, job->computed, facts_.threads);
    if (worth < 1) continue;
    if (static_cast<int32_t>(draft.size()) > worth) draft.resize(static_cast<size_t>(worth));
    c.decode_rows = 1 + static_cast<int32_t>(draft.size());
    drafts[static_cast<size_t>(c.slot)] = std::move(draft);
  }
  return drafts;
}

// Whether decoders and chunks take turns; asked only where somebody decodes while somebody else prefills.
bool Core::ChooseAlternate(const std::vector<Candidate>& candidates, int adapter) {
  const StepShape decoding = DecodingStep(candidates, adapter);
  bool prefills = false;
  double decoder_waits = 0, chunk_waits = 1e9;
  for (const Candidate& c : candidates) {
    if (c.adapter != adapter) continue;
    if (c.decode_rows > 0) decoder_waits = std::max(decoder_waits, c.waited);
    if (c.decode_rows == 0 && c.prefill_left > 0) {
      prefills = true;
      chunk_waits = std::min(chunk_waits, c.waited);
    }
  }
  if (!prefills || decoding.rows == 0) return false;
  // Trying the other way must not come on top of a chunk that decoders have waited for.
  const CostTable::Alternation choice =
      costs_.ChooseAlternate(decoding, facts_.threads, decoder_waits <= chunk_waits);
  costs_.Chose(decoding, choice);
  return choice.alternate;
}

// Each row takes a cell. Where they are missing, idle prefixes go first, then the drafts, then the youngest
// requests, with their parts of the plan; a request that fills the cache alone ends. False where nothing is
// left to compute.
bool Core::FitIntoCache(Plan* plan) {
  for (;;) {
    int64_t cells = 0, drafted = 0;
    for (const Part& part : *plan) {
      cells += part.all_rows();
      drafted += static_cast<int64_t>(part.draft.size());
    }
    if (cells == 0) return false;
    if (cache_.MakeRoom(cells)) return true;
    if (drafted > 0) {
      for (Part& part : *plan) part.draft.clear();
    } else if (running_.size() > 1) {
      const std::shared_ptr<Job> victim = PreemptOne();
      std::erase_if(*plan, [&](const Part& part) { return part.job == victim; });
    } else {
      Finish(plan->front().job, Finish::kLength);
      return false;
    }
  }
}

// ---------------------------------------------------------------- its rows

Core::Rows Core::RowsOf(Plan* plan) {
  Rows result;
  for (Part& part : *plan) {
    const Job& job = *part.job;
    part.first_row = static_cast<int>(result.rows.size());
    for (int32_t i = 0; i < part.all_rows(); ++i) {
      const bool drafted = i >= part.rows;
      model::Row row;
      row.position = job.computed + i;
      row.path = job.path;
      row.adapter = job.request.adapter;
      row.token = drafted ? part.draft[static_cast<size_t>(i - part.rows)]
                          : job.tokens[static_cast<size_t>(row.position)];
      row.output = drafted || (part.samples && i == part.rows - 1) || job.WantsScore(row.position);
      result.shape.attended += row.position;
      result.shape.outputs += row.output ? 1 : 0;
      result.rows.push_back(row);
    }
    if (job.committed > 0) result.shape.piggybacked += part.all_rows();
  }
  result.shape.rows = static_cast<int32_t>(result.rows.size());
  return result;
}

Status Core::Compute(const Plan& plan, const Rows& step) {
  const int threads = options_.deterministic ? facts_.threads : costs_.ChooseThreads(step.shape);
  const double before = clock_();
  HEADRACE_TRY(cache_.Compute(step.rows, threads));
  const double seconds = clock_() - before;
  costs_.Observe(step.shape, threads, seconds);
  for (const Part& part : plan)
    part.job->usage.compute_seconds += seconds * part.all_rows() / step.shape.rows;
  ++stats_.steps;
  if (std::any_of(step.rows.begin(), step.rows.end(),
                  [&](const model::Row& row) { return row.adapter != step.rows[0].adapter; }))
    ++stats_.mixed_steps;
  stats_.rows += step.shape.rows;
  stats_.decode_seconds += seconds;
  return Status::Ok();
}

// A step that failed. Where the ledger was wrong about free cells, room is made the hard way and nobody is
// lost; else its requests end with the reason.
void Core::GiveUp(const Plan& plan, const Status& why) {
  if (why.Is(Code::kLimit)) {
    ++stats_.surprises;
    if (cache_.EvictOne()) return;
    if (running_.size() > 1 && PreemptOne()) return;
  }
  for (const Part& part : plan) Finish(part.job, Finish::kError, why);
}

}  // namespace headrace::engine
