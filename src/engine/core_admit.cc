// Core: who begins and with which cached prefix; how a request ends.
#include <algorithm>

#include "engine/core.h"

namespace headrace::engine {
std::string_view FinishName(Finish finish) {
  switch (finish) {
    case Finish::kNone:
      return "";
    case Finish::kEnd:
      return "end";
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
    case Finish::kCancelled:
      return "cancelled";
    case Finish::kTimeout:
      return "timeout";
    case Finish::kError:
      return "error";
  }
  return "";
}

uint64_t Core::SpaceOf(const Request& request) const {
  const auto adapter = static_cast<size_t>(request.adapter);
  const uint64_t number = request.adapter < 0                  ? 0
                          : adapter < options_.adapters.size() ? options_.adapters[adapter]
                                                               : adapter + 1;
  return CacheSpace(options_.weights, number, request.scope);
}

namespace {

Status CheckPieces(const Prompt& prompt, int32_t vocabulary) {
  for (const PromptPiece& piece : prompt.pieces()) {
    const auto* tokens = std::get_if<std::vector<Token>>(&piece);
    if (tokens == nullptr)
      return Status::Unsupported("the prompt holds media, and this model reads text alone");
    for (const Token token : *tokens)
      if (token < 0 || token >= vocabulary)
        return Status::Invalid("the prompt holds token " + std::to_string(token) +
                               "; this model has tokens 0 to " + std::to_string(vocabulary - 1));
  }
  return Status::Ok();
}

}  // namespace

void Core::Add(std::shared_ptr<Job> job) {
  ++stats_.requests;
  const Request& request = job->request;
  job->text = TextOut(request.stops, request.ignore_end ? std::vector<std::string>{} : request.turn_ends);
  job->usage.prompt_tokens = static_cast<int32_t>(request.prompt.size());
  stats_.prompt_tokens += job->usage.prompt_tokens;
  const auto refuse = [&](Status why) {
    ++stats_.refused;
    Finish(job, Finish::kError, std::move(why));
  };
  if (request.prompt.empty())
    return refuse(Status::Invalid("the prompt is empty: there is nothing to continue"));
  if (Status status = CheckPieces(request.prompt, facts_.vocabulary); !status.ok())
    return refuse(std::move(status));
  if (const std::string problem = request.sampling.Problem(); !problem.empty())
    return refuse(Status::Invalid(problem));
  const int32_t room = std::min(facts_.context, facts_.cells) - job->usage.prompt_tokens;
  if (room < 1)
    return refuse(Status::Limit(
        "the prompt has " + std::to_string(job->usage.prompt_tokens) + " tokens and the context holds " +
        std::to_string(std::min(facts_.context, facts_.cells)) +
        ", one of them for an answer; shorten the prompt or load the model with a longer context"));
  job->limit = request.max_tokens < 0 ? room : std::min(request.max_tokens, room);
  if (job->limit == 0 && request.prompt_logprobs < 0) return Finish(job, Finish::kLength);
  if (static_cast<int32_t>(waiting_.size()) >= options_.queue)
    return refuse(Status::Unavailable("the queue is full (" + std::to_string(options_.queue) +
                                      " requests wait); try again"));
  job->tokens = request.prompt.keys();
  if (request.sampling.repetition_penalty != 1.0F) {
    job->history.prompt = request.prompt.keys();
    std::sort(job->history.prompt.begin(), job->history.prompt.end());
    job->history.prompt.erase(std::unique(job->history.prompt.begin(), job->history.prompt.end()),
                              job->history.prompt.end());
  }
  if (job->request.sampling.min_tokens > 0) {
    std::vector<Token>& held = job->request.sampling.held;
    held = request.stop_tokens;
    held.insert(held.end(), ends_.begin(), ends_.end());
  }
  if (job->grammar) job->matcher = Grammars::Match(job->grammar);
  StepShape shape{std::min<int32_t>(job->usage.prompt_tokens, facts_.max_rows), 1, 0};
  const double prefill = costs_.Predict(shape, facts_.threads) * job->usage.prompt_tokens / shape.rows;
  job->charged = prefill + admit_.ExpectedAnswer(job->limit) * costs_.Predict({1, 1, 0}, 1) / 4;
  waiting_.emplace(job->id, job);
  fair_.Push(request.key, {job->id, request.priority, job->charged});
}

// Ends what was cancelled or is out of time: its slot and cells are free before the next step.
void Core::EndExpired() {
  const double now = clock_();
  for (auto* jobs : {&running_, &waiting_}) {
    std::vector<std::shared_ptr<Job>> ended;
    for (const auto& [id, job] : *jobs)
      if (job->cancel.stopped() || (job->deadline > 0 && now >= job->deadline) ||
          (jobs == &waiting_ && job->deadline > 0 && CannotBeInTime(*job, now)))
        ended.push_back(job);
    for (const auto& job : ended) Finish(job, job->cancel.stopped() ? Finish::kCancelled : Finish::kTimeout);
  }
}

bool Core::MayReuse(const Job& job) const {
  if (!job.request.reuse || !options_.reuse || job.preempted) return false;
  return job.request.prompt_logprobs < 0 || job.scored > 0;  // else each of its rows is wanted
}

// At least one token is computed: its logits are the answer's beginning.
KvCache::PrefixMatch Core::MatchPrefix(const Job& job) const {
  if (!MayReuse(job)) return {};
  return cache_.MatchPrefix(SpaceOf(job.request), std::span(job.tokens).first(job.tokens.size() - 1));
}

// Whether a running request is computing more of this one's prompt than the `have` tokens that are cached.
bool Core::BeingComputed(const Job& job, int32_t have) const {
  if (!MayReuse(job)) return false;
  const uint64_t space = SpaceOf(job.request);
  const auto usable = static_cast<int32_t>(job.tokens.size()) - 1;
  return std::any_of(running_.begin(), running_.end(), [&](const auto& one) {
    const Job& other = *one.second;
    if (other.committed > 0 || !other.request.reuse || SpaceOf(other.request) != space) return false;
    const int32_t common = std::min(CommonLength(job.tokens, other.tokens), usable);
    return common >= have + options_.machine.least_awaited && other.computed < common;
  });
}

bool Core::HasSlot(const Job& job) const {
  const auto running = static_cast<int32_t>(running_.size());
  if (running < options_.slots) return true;
  if (running >= options_.slots + options_.light_slots) return false;
  const int32_t mine = RunningOf(job.request.key);
  if (mine == 0) return true;
  return std::any_of(running_.begin(), running_.end(), [&](const auto& one) {
    return (mine + 1) * options_.machine.light_ratio <= RunningOf(one.second->request.key);
  });
}

int32_t Core::RunningOf(const std::string& key) const {
  return static_cast<int32_t>(std::count_if(running_.begin(), running_.end(),
                                            [&](const auto& one) { return one.second->request.key == key; }));
}

Timed Core::TimedOf(const Job& job, int32_t cached, bool least) const {
  const int32_t computed = job.preempted ? job.preempted->tokens : job.computed;
  const auto prefill = static_cast<int32_t>(job.tokens.size()) - std::max(computed, cached);
  // Where the model may end it, nobody is turned away for an answer that might have been long.
  const int32_t expected = job.request.ignore_end ? job.limit : least ? 1 : admit_.ExpectedAnswer(job.limit);
  return {job.committed > 0 ? 0 : prefill, std::max(expected - job.committed, 1), job.deadline};
}

bool Core::CannotBeInTime(const Job& job, double now) const {
  if (!Hopeless(TimedOf(job, 0, true), now, costs_, facts_.threads)) return false;
  // Not looked up for everybody at every step.
  return Hopeless(TimedOf(job, MatchPrefix(job).longest(), true), now, costs_, facts_.threads);
}

bool Core::TooManyRun(const Job& job) const {
  return RunningOf(job.request.key) > 0 &&
         static_cast<int32_t>(running_.size()) >= Knee(costs_, facts_.threads, options_.slots);
}

bool Core::InTime(const Job& job, int32_t cached) const {
  std::vector<Timed> running;
  for (const auto& [id, one] : running_) running.push_back(TimedOf(*one, 0, false));
  return MayBeginInTime(TimedOf(job, cached, true), running, clock_(), costs_, facts_.threads);
}

int64_t Core::CellsFor(const Job& job, const KvCache::PrefixMatch& match) const {
  return admit_.Reservation(static_cast<int32_t>(job.tokens.size()) - match.in_cells(),
                            job.limit - job.committed, job.usage.preemptions);
}

bool Core::MayBegin(const Job& job) const {
  if (!HasSlot(job) || (job.deadline > 0 && TooManyRun(job))) return false;
  if (running_.empty()) return true;  // alone, it always may
  const KvCache::PrefixMatch match = MatchPrefix(job);
  if (BeingComputed(job, match.longest())) return false;
  if (job.deadline > 0 && !InTime(job, match.in_cells())) return false;
  return cache_.CanAllocate(match, CellsFor(job, match));
}

void Core::BeginWaiting() {
  // Of those with deadlines the newest of each key goes first, while somebody has waited too long.
  const double now = clock_();
  const bool pressed = std::any_of(waiting_.begin(), waiting_.end(), [&](const auto& one) {
    return Pressed(one.second->submitted, one.second->deadline, now);
  });
  while (!fair_.empty() && static_cast<int32_t>(running_.size()) < options_.slots + options_.light_slots) {
    std::map<std::pair<std::string_view, int>, uint64_t> newest;
    if (pressed)
      for (const auto& [id, job] : waiting_)
        if (job->deadline > 0) newest[{job->request.key, job->request.priority}] = id;
    const auto next = fair_.Pop(
        [this](uint64_t id) { return MayBegin(*waiting_.at(id)); },
        [&](uint64_t id) {
          const Job& job = *waiting_.at(id);
          return !pressed || job.deadline <= 0 || newest[{job.request.key, job.request.priority}] == id;
        });
    if (!next) return;
    const std::shared_ptr<Job> job = waiting_.at(*next);
    waiting_.erase(*next);
    if (!BeginJob(job)) {  // no room after all: back to the front
      waiting_.emplace(job->id, job);
      fair_.PushFront(job->request.key, {job->id, job->request.priority, 0});
      return;
    }
  }
}

bool Core::BeginJob(const std::shared_ptr<Job>& job) {
  const KvCache::PrefixMatch match = MatchPrefix(*job);
  KvCache::Claim claim;
  claim.space = SpaceOf(job->request);
  claim.tokens = job->tokens;
  claim.cells = CellsFor(*job, match);
  claim.preempted = job->preempted ? &*job->preempted : nullptr;
  claim.anyway = running_.empty();
  const std::optional<KvCache::Grant> grant = cache_.Allocate(match, claim);
  if (!grant) return false;
  job->path = grant->path;
  job->computed = grant->length;
  job->preempted.reset();
  if (grant->restored) ++stats_.restores;
  const double now = clock_();
  if (job->started == 0) {
    job->started = now;
    job->usage.queue_seconds = now - job->submitted;
    job->usage.cached_tokens = std::min(job->computed, job->usage.prompt_tokens);
    stats_.cached_tokens += job->usage.cached_tokens;
  }
  job->last_row = now;
  running_.emplace(job->id, job);
  return true;
}

// The youngest gives way to the others, and waits again.
std::shared_ptr<Job> Core::PreemptOne() {
  std::vector<Running> candidates;
  std::vector<std::shared_ptr<Job>> jobs;
  for (const auto& [id, job] : running_) {
    candidates.push_back({static_cast<int>(jobs.size()), job->started, job->request.priority,
                          job->usage.preemptions, job->usage.preemptions >= 2});
    jobs.push_back(job);
  }
  int victim = ChooseVictim(candidates);
  if (victim < 0) {  // all hold full reservations: the youngest all the same, rather than a broken batch
    for (Running& c : candidates) c.reserved = false;
    victim = ChooseVictim(candidates);
  }
  if (victim < 0) return nullptr;
  const std::shared_ptr<Job> job = jobs[static_cast<size_t>(victim)];
  job->preempted = cache_.Preempt(job->path);
  job->computed = 0;
  job->path = -1;
  ++job->usage.preemptions;
  ++stats_.preemptions;
  running_.erase(job->id);
  waiting_.emplace(job->id, job);
  fair_.PushFront(job->request.key, {job->id, job->request.priority, 0});
  return job;
}

void Core::Finish(const std::shared_ptr<Job>& job, engine::Finish how, Status error) {
  const double now = clock_();
  const bool was_running = running_.erase(job->id) > 0;
  if (!was_running && waiting_.erase(job->id) > 0) fair_.Remove(job->request.key, job->id);
  if (job->path >= 0) {
    cache_.Release(job->path, how != Finish::kError && options_.reuse && job->request.reuse, now);
    job->path = -1;
  }
  Delta delta = std::move(job->out);
  job->out = {};
  if (!job->text.stopped()) delta.text += job->text.Finish();
  delta.finish = how;
  if (how == Finish::kStop && job->text.stopped()) delta.stop = job->text.stop();
  delta.error = std::move(error);
  Usage& usage = job->usage;
  usage.answer_tokens = job->committed;
  if (job->started == 0) usage.queue_seconds = job->submitted > 0 ? now - job->submitted : 0;
  if (job->first_token > 0) usage.decode_seconds = now - job->first_token;
  delta.usage = usage;
  stats_.answer_tokens += usage.answer_tokens;
  switch (how) {
    case Finish::kCancelled:
      ++stats_.cancelled;
      break;
    case Finish::kTimeout:
      ++stats_.timed_out;
      break;
    case Finish::kError:
      ++stats_.failed;
      break;
    default:
      ++stats_.finished;
      admit_.Finished(usage.answer_tokens);
  }
  if (job->started > 0) fair_.Charge(job->request.key, usage.compute_seconds - job->charged);
  job->preempted.reset();
  if (job->sink) job->sink(std::move(delta));
}

void Core::Abort(const Status& why, bool save) {
  for (auto* jobs : {&running_, &waiting_}) {
    while (!jobs->empty()) {
      const std::shared_ptr<Job> job = jobs->begin()->second;  // Finish takes it out of the map
      Finish(job, Finish::kError, why);
    }
  }
  if (save) cache_.EvictIdle();
}

std::string Core::Audit() const {
  std::map<int, uint64_t> holders;
  for (const auto& [id, job] : running_) {
    const std::string name = "request " + std::to_string(id);
    if (waiting_.count(id) != 0) return name + " runs and waits";
    if (!cache_.held(job->path)) return name + " runs on a path that it does not hold";
    if (!holders.emplace(job->path, id).second)
      return "path " + std::to_string(job->path) + " has two holders";
    if (cache_.length(job->path) != job->computed)
      return name + " computed " + std::to_string(job->computed) + " tokens, its path has " +
             std::to_string(cache_.length(job->path));
    const std::vector<Token> held = cache_.tokens(job->path);
    if (!std::equal(held.begin(), held.end(), job->tokens.begin())) return name + " and its path differ";
  }
  for (int path = 0; path < facts_.paths; ++path)
    if (cache_.held(path) && holders.count(path) == 0)
      return "path " + std::to_string(path) + " is held by nobody";
  if (fair_.size() != waiting_.size()) return "the queue and the waiting requests differ";
  return cache_.Audit();
}

}  // namespace headrace::engine
