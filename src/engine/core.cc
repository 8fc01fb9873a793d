// Core: one step.
#include "engine/core.h"

#include <algorithm>

#include "base/check.h"

namespace headrace::engine {
namespace {

constexpr int32_t kForcedAtOnce = 32;  // tokens given by a grammar that are computed like a decode
constexpr int32_t kMostDraft = 31;
constexpr int32_t kScoredRows =
    64;  // of a step whose logits are all wanted: a megabyte each at 262,144 tokens

constexpr size_t kManyRun = 16;  // requests: so many pay for idle cells in every step

KvCacheOptions CacheOptions(const CoreOptions& options, const model::DecoderFacts& facts) {
  KvCacheOptions cache;
  cache.grid = options.deterministic ? options.grid : 0;
  cache.cut_idle = options.deterministic && facts.paths <= options.slots;
  return cache;
}

// Whether the row of this token says how likely the prompt's next one is, and somebody asked.
bool WantsScore(const Job& job, int32_t position) {
  return job.request.prompt_logprobs >= 0 && position >= job.scored && position + 1 < job.usage.prompt_tokens;
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
      admit_(options_.expected_answer),
      drawer_(facts_.vocabulary, options.draw_threads) {
  for (Token token = 0; token < facts_.vocabulary; ++token)
    if (vocabulary_->IsEnd(token)) ends_.push_back(token);
  limits_.max_rows = facts_.max_rows;
  limits_.max_gap = options_.max_gap;
  limits_.grid = options_.deterministic ? options_.grid : 0;
  options_.slots = std::min(options_.slots, facts_.paths);
  options_.guests = options_.deterministic ? 0 : std::min(options_.guests, facts_.paths - options_.slots);
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

std::vector<Work> Core::BuildWork(double now) {
  std::vector<Work> work;
  drafts_.clear();
  StepShape others;
  std::map<std::string_view, int32_t> shares;
  for (const auto& [id, job] : running_) ++shares[job->request.key];
  for (const auto& [id, job] : running_) {
    Work w;
    w.share = shares[job->request.key];
    w.fresh = job->last_row == job->started;
    w.slot = static_cast<int>(work.size());
    w.adapter = facts_.mixes_adapters ? -1 : job->request.adapter;
    w.position = job->computed;
    w.waited = now - job->last_row;
    w.interactive = job->request.interactive;
    const auto pending = static_cast<int32_t>(job->tokens.size()) - job->computed;
    if (job->committed > 0 && pending <= kForcedAtOnce) {
      w.decode_rows = options_.deterministic ? 1 : pending;
      others.rows += pending;
      others.outputs += 1;
      others.attended += static_cast<int64_t>(pending) * job->computed;
    } else {
      w.prefill_left = job->request.prompt_logprobs >= 0 ? std::min(pending, kScoredRows) : pending;
    }
    work.push_back(w);
  }
  if (!options_.lookup) return work;
  auto at = work.begin();
  for (const auto& [id, job] : running_) {
    Work& w = *at++;
    if (w.decode_rows != 1 || !job->request.lookup || job->matcher) continue;
    const int32_t left =
        std::min(job->limit - job->committed, facts_.context - static_cast<int32_t>(job->tokens.size())) - 1;
    if (left < 1) continue;
    StepShape rest = others;
    rest.rows -= 1;
    rest.outputs -= 1;
    rest.attended -= job->computed;
    job->lookup.Extend(job->tokens);
    std::vector<Token> draft = job->lookup.Draft(job->tokens, std::min(left, kMostDraft));
    if (draft.empty()) continue;
    const int32_t worth = job->lookup.Worth(costs_, rest, job->computed, facts_.threads);
    if (worth < 1) continue;
    if (static_cast<int32_t>(draft.size()) > worth) draft.resize(static_cast<size_t>(worth));
    w.decode_rows = 1 + static_cast<int32_t>(draft.size());
    drafts_[id] = std::move(draft);
  }
  return work;
}

// Asked only where somebody decodes while somebody else prefills.
bool Core::ChooseApart(const std::vector<Work>& work, int adapter) {
  const StepShape decoding = DecodingStep(work, adapter);
  bool prefills = false;
  double decoder_waits = 0, chunk_waits = 1e9;
  for (const Work& w : work) {
    if (w.adapter != adapter) continue;
    if (w.decode_rows > 0) decoder_waits = std::max(decoder_waits, w.waited);
    if (w.decode_rows == 0 && w.prefill_left > 0) {
      prefills = true;
      chunk_waits = std::min(chunk_waits, w.waited);
    }
  }
  // Trying the other way must not come on top of a chunk that decoders have waited for.
  return prefills && decoding.rows > 0 &&
         costs_.ChooseApart(decoding, facts_.threads, decoder_waits <= chunk_waits);
}

bool Core::Step() {
  Reap();
  Begin();
  if (running_.empty()) return false;
  cache_.OffloadIdle(running_.size() >= kManyRun ? options_.resident / 4 : options_.resident);
  const double now = clock_();
  for (;;) {
    const std::vector<Work> work = BuildWork(now);
    const int adapter = turn_.Next(work);
    limits_.apart = ChooseApart(work, adapter);
    const std::vector<Share> plan = Schedule(work, adapter, limits_, costs_, facts_.threads);
    HEADRACE_CHECK(!plan.empty());
    int64_t cells = 0;
    for (const Share& share : plan) cells += share.rows;
    // Cells for this step: idle prefixes go first, then drafts, then the youngest gives way.
    if (cache_.MakeRoom(cells)) {
      if (adapter != adapter_) ++stats_.adapter_switches;
      adapter_ = adapter;
      return RunStep(plan, now);
    }
    if (running_.size() > 1 && PreemptOne()) continue;
    // One request alone, and the cache is full of it: its answer ends here.
    const std::shared_ptr<Job> job = running_.begin()->second;
    if (cache_.free_cells() >= 1 &&
        static_cast<int32_t>(job->tokens.size()) - job->computed <= cache_.free_cells()) {
      drafts_.clear();
      return RunStep({{0, static_cast<int32_t>(job->tokens.size()) - job->computed}}, now);
    }
    Finish(job, Finish::kLength);
    return true;
  }
}

bool Core::RunStep(const std::vector<Share>& plan, double now) {
  std::vector<std::shared_ptr<Job>> jobs;
  for (const auto& [id, job] : running_) jobs.push_back(job);
  struct Part {
    std::shared_ptr<Job> job;
    int first = 0;
    int32_t rows = 0;
    bool samples = false;
    bool drafted = false;
  };
  std::vector<model::Row> rows;
  std::vector<Part> parts;
  StepShape shape;
  for (const Share& share : plan) {
    const std::shared_ptr<Job>& job = jobs[static_cast<size_t>(share.slot)];
    Part part{job, static_cast<int>(rows.size()), share.rows, false, false};
    const auto pending = static_cast<int32_t>(job->tokens.size()) - job->computed;
    const auto draft = drafts_.find(job->id);
    part.drafted = draft != drafts_.end() && share.rows > pending;
    part.samples = share.rows >= pending;
    for (int32_t i = 0; i < share.rows; ++i) {
      const int32_t position = job->computed + i;
      model::Row row;
      row.position = position;
      row.path = job->path;
      row.adapter = job->request.adapter;
      row.token = i < pending ? job->tokens[static_cast<size_t>(position)]
                              : draft->second[static_cast<size_t>(i - pending)];
      row.output = (part.samples && (i == share.rows - 1 || (part.drafted && i >= pending - 1))) ||
                   WantsScore(*job, position);
      shape.attended += position;
      shape.outputs += row.output ? 1 : 0;
      rows.push_back(row);
    }
    parts.push_back(std::move(part));
  }
  shape.rows = static_cast<int32_t>(rows.size());
  for (const Part& part : parts)
    if (part.job->committed > 0) shape.beside += part.rows;
  const int threads = options_.deterministic ? facts_.threads : costs_.ChooseThreads(shape);
  const double before = clock_();
  const Status status = cache_.Compute(rows, threads);
  const double after = clock_();
  if (!status.ok()) {
    if (status.Is(Code::kLimit)) {  // the ledger was wrong: make room the hard way, nobody is lost
      ++stats_.surprises;
      if (cache_.EvictOne()) return true;
      if (running_.size() > 1 && PreemptOne()) return true;
    }
    for (const Part& part : parts) Finish(part.job, Finish::kError, status);
    return true;
  }
  costs_.Observe(shape, threads, after - before);
  ++stats_.steps;
  if (std::any_of(rows.begin(), rows.end(),
                  [&](const model::Row& r) { return r.adapter != rows[0].adapter; }))
    ++stats_.mixed_steps;
  stats_.rows += shape.rows;
  stats_.decode_seconds += after - before;
  std::vector<Draw> draws;  // of rows without drafts, in the order of parts
  if (options_.draw_threads > 1) {
    for (const Part& part : parts)
      if (part.samples && !part.drafted) draws.push_back(DrawOf(*part.job, part.first + part.rows - 1));
    drawer_.Together(draws);
  }
  auto drawn = draws.begin();
  for (const Part& part : parts) {
    Job& job = *part.job;
    job.usage.compute_seconds += (after - before) * part.rows / shape.rows;
    job.last_row = now;
    const auto pending = static_cast<int32_t>(job.tokens.size()) - job.computed;
    const int32_t own = std::min(part.rows, pending);
    (job.committed > 0 ? stats_.decode_rows : stats_.prefill_rows) += own;
    if (job.request.prompt_logprobs >= 0) ScorePrompt(job, part.first, own);
    job.computed += own;
    if (job.request.progress && job.committed == 0) job.out.processed = job.computed;
    if (!part.samples) continue;
    const int first_output = part.first + own - 1;
    SampleRows(job, first_output, part.rows - own + 1, after,
               drawn != draws.end() && !part.drafted ? &*drawn++ : nullptr);
    if (part.drafted) {
      const auto& draft = drafts_.at(job.id);
      // Sampled tokens that agree with the draft are in the cache already; the rest of the draft is cut off.
      const auto known = static_cast<int32_t>(job.tokens.size()) - job.computed;
      const auto drafted = static_cast<int32_t>(part.rows - own);
      const auto said = job.tokens.begin() + job.computed;
      const auto accepted = static_cast<int32_t>(
          std::mismatch(said, said + std::min(drafted, known), draft.begin(), draft.begin() + drafted).first -
          said);
      job.computed += accepted;
      cache_.Truncate(job.path, job.computed);
      job.lookup.Verified(drafted, accepted);
      job.usage.drafted_tokens += drafted;
      job.usage.accepted_tokens += accepted;
      stats_.drafted += drafted;
      stats_.accepted += accepted;
    }
  }
  const double sampled = clock_();
  stats_.sample_seconds += sampled - after;
  Deliver();
  stats_.step_seconds += clock_() - now;
  return true;
}

Draw Core::DrawOf(Job& job, int row) {
  job.history.said = job.tokens;
  job.history.begin = job.request.prompt.size();
  return {decoder_->Logits(row), &job.request.sampling, &job.history, job.matcher.get(), job.sampled};
}

// Samples from the outputs of a request's rows: one, or one for each drafted token while they agree.
void Core::SampleRows(Job& job, int first_row, int rows, double now, const Draw* drawn) {
  const auto draft = drafts_.find(job.id);
  if (job.first_token == 0) {
    job.first_token = now;
    job.usage.prefill_seconds = now - job.started;
  }
  if (job.request.max_tokens == 0) {  // only its prompt was asked about
    job.out.finish = Finish::kLength;
    return;
  }
  for (int i = 0; i < rows; ++i) {
    Draw draw = drawn != nullptr && i == 0 ? *drawn : DrawOf(job, first_row + i);
    const Token token = drawn != nullptr && i == 0 ? draw.token : drawer_.One(draw);
    ++job.sampled;
    if (token < 0) {
      job.out.error =
          Status::Invalid("no token may follow: the grammar, logit_bias or the model's numbers leave none");
      return;
    }
    if (!TakeToken(job, token, draw.logits, false)) return;
    if (i + 1 < rows && draft->second[static_cast<size_t>(i)] != token) return;
  }
  if (job.matcher) TakeForced(job);
}

// Log-probabilities of the prompt's tokens that these rows foretell.
void Core::ScorePrompt(Job& job, int first_row, int32_t rows) {
  for (int32_t i = 0; i < rows; ++i) {
    const int32_t position = job.computed + i;
    if (!WantsScore(job, position)) continue;
    TokenOut out{job.tokens[static_cast<size_t>(position) + 1], 0, {}};
    out.logprob = Sampler::LogProbability(decoder_->Logits(first_row + i), out.token,
                                          job.request.prompt_logprobs, &out.top)
                      .logprob;
    job.out.prompt.push_back(std::move(out));
    job.scored = position + 1;
  }
}

// Adds a token to the answer. False where the answer ends with it.
bool Core::TakeToken(Job& job, Token token, std::span<const float> logits, bool forced) {
  const bool end = vocabulary_->IsEnd(token);
  if (job.matcher && !job.matcher->Accept(token)) {
    job.out.error = Status::Invalid("a token was chosen that its grammar refuses");
    return false;
  }
  if (end && !job.request.ignore_end) {
    job.out.finish = Finish::kEnd;
    return false;
  }
  const std::vector<Token>& stops = job.request.stop_tokens;
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
    job.out.finish = Finish::kStop;
    job.out.stop_token = token;
    return false;
  }
  job.tokens.push_back(token);
  ++job.committed;
  job.history.Said(token);
  TokenOut out{token, 0, {}};
  if (job.request.top_logprobs >= 0 && !logits.empty())
    out.logprob = Sampler::LogProbability(logits, token, job.request.top_logprobs, &out.top).logprob;
  job.out.tokens.push_back(std::move(out));
  if (forced) {
    ++job.usage.forced_tokens;
    ++stats_.forced;
  }
  if (job.committed <= job.request.sampling.min_tokens) {
    job.out.text += job.text.AddPlain(vocabulary_->Piece(token));
  } else {
    job.out.text += job.text.Add(vocabulary_->Piece(token), !job.matcher || job.matcher->may_end());
  }
  if (job.text.stopped()) {
    job.out.finish = Finish::kStop;
    return false;
  }
  if (job.text.turn_ended() || (job.matcher && job.matcher->done())) {
    job.out.finish = Finish::kEnd;
    return false;
  }
  if (job.committed >= job.limit || static_cast<int32_t>(job.tokens.size()) >= facts_.context) {
    job.out.finish = Finish::kLength;
    return false;
  }
  return true;
}

// What the grammar leaves no choice about is taken without asking the model; the last of its tokens is left
// to the model, which may join it with what follows.
void Core::TakeForced(Job& job) {
  if (options_.deterministic || !options_.jump) return;
  const std::string text = job.matcher->Forced();
  if (text.size() < 2) return;
  const std::vector<Token> tokens = vocabulary_->Tokenize(text);
  std::string back;
  for (const Token token : tokens) back += vocabulary_->Piece(token);
  if (back != text) return;  // a tokenizer that changes texts: the model writes this itself
  for (size_t i = 0; i + 1 < tokens.size() && i < static_cast<size_t>(kForcedAtOnce) - 1; ++i)
    if (!TakeToken(job, tokens[i], {}, true)) return;
}

Usage Core::UsageNow(const Job& job) const {
  Usage usage = job.usage;
  usage.answer_tokens = job.committed;
  const double now = clock_();
  if (job.first_token == 0) usage.prefill_seconds = now - job.started;
  if (job.first_token > 0) usage.decode_seconds = now - job.first_token;
  return usage;
}

// Hands out what the step gave, and ends what has ended.
void Core::Deliver() {
  std::vector<std::shared_ptr<Job>> ended;
  for (const auto& [id, job] : running_) {
    if (job->out.finish != Finish::kNone || !job->out.error.ok()) {
      ended.push_back(job);
    } else if (!job->out.tokens.empty() || !job->out.prompt.empty() || job->out.processed >= 0) {
      Delta delta = std::move(job->out);
      job->out = {};
      if (job->request.report) delta.usage = UsageNow(*job);
      if (job->sink) job->sink(std::move(delta));
    }
  }
  for (const auto& job : ended) {
    const Status error = job->out.error;
    const engine::Finish how = error.ok() ? job->out.finish : Finish::kError;
    Finish(job, how, error);
  }
}

}  // namespace headrace::engine
