// Core: who begins and with which cached prefix; how a request ends.
#include <algorithm>

#include "base/hash.h"
#include "engine/core.h"

namespace headrace::engine {
namespace {

constexpr int32_t kWorthWaiting = 32;  // tokens that somebody else is about to compute

}  // namespace

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

uint64_t Core::Root(const Request& request) const {
  return std::hash<std::string>{}(request.scope) * 0x9E3779B97F4A7C15ULL +
         static_cast<uint64_t>(request.adapter + 1);
}

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
  for (const Token token : request.prompt)
    if (token < 0 || token >= facts_.vocabulary)
      return refuse(Status::Invalid("the prompt holds token " + std::to_string(token) +
                                    "; this model has tokens 0 to " + std::to_string(facts_.vocabulary - 1)));
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
  job->tokens = request.prompt;
  if (request.sampling.repetition_penalty != 1.0F) {
    job->history.prompt = request.prompt;
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
void Core::Reap() {
  const double now = clock_();
  for (auto* jobs : {&running_, &waiting_}) {
    std::vector<std::shared_ptr<Job>> ended;
    for (const auto& [id, job] : *jobs)
      if (job->cancelled.load(std::memory_order_relaxed) || (job->deadline > 0 && now >= job->deadline) ||
          (jobs == &waiting_ && job->deadline > 0 && CannotBeInTime(*job, now)))
        ended.push_back(job);
    for (const auto& job : ended)
      Finish(job, job->cancelled.load(std::memory_order_relaxed) ? Finish::kCancelled : Finish::kTimeout);
  }
}

Core::Start Core::FindStart(const Job& job) const {
  Start start;
  const Request& request = job.request;
  if (!request.reuse || !options_.reuse || job.saved) return start;
  if (request.prompt_logprobs >= 0 && job.scored == 0) return start;  // each of its rows is wanted
  // At least one token is computed: its logits are the answer's beginning.
  const auto usable = static_cast<int32_t>(job.tokens.size()) - 1;
  const uint64_t root = Root(request);
  const std::span<const Token> tokens(job.tokens.data(), static_cast<size_t>(usable));
  start.match = tree_.Find(root, tokens);
  if (options_.deterministic && start.match.path >= 0) {
    int32_t safe = 0;
    if (const auto found = cached_.find(start.match.path); found != cached_.end())
      safe = found->second.grid_safe;
    for (const auto& [id, other] : running_)
      if (other->path == start.match.path) safe = other->grid_safe;
    start.match.length = std::min(start.match.length, safe) / options_.grid * options_.grid;
  }
  if (start.match.length > 0 && !facts_.can_truncate && start.match.length != tree_.length(start.match.path))
    start.match.length = 0;
  if (start.match.length > 0 && facts_.window > 0) {
    // Every layer must still hold what the first new token will see.
    bool held = false;
    for (const int path : tree_.Covering(start.match.path, start.match.length)) {
      if (decoder_->FirstPosition(path) > std::max(0, start.match.length - facts_.window)) continue;
      start.match.path = path;
      held = true;
      break;
    }
    if (!held) start.match.length = 0;
  }
  if (start.match.length == 0) start.match.path = -1;
  for (const auto& entry : hosted_) {
    if (entry.root != root) continue;
    int32_t length = CommonLength(entry.tokens, tokens);
    if (options_.deterministic) length = std::min(length, entry.grid_safe) / options_.grid * options_.grid;
    if (length < std::max(start.match.length + kWorthHosting, start.hosted_length + 1)) continue;
    if (length < static_cast<int32_t>(entry.tokens.size())) {
      if (!facts_.can_truncate) continue;
      if (facts_.window > 0 && entry.first_position > std::max(0, length - facts_.window)) continue;
    }
    start.hosted = &entry;
    start.hosted_length = length;
  }
  const int32_t have = std::max(start.hosted_length, start.match.length);
  for (const auto& [id, other] : running_) {
    if (other->committed > 0 || !other->request.reuse || Root(other->request) != root) continue;
    const int32_t common = std::min(CommonLength(job.tokens, other->tokens), usable);
    if (common >= have + kWorthWaiting && other->computed < common) {
      start.wait = true;
      break;
    }
  }
  return start;
}

bool Core::HasSlot(const Job& job) const {
  const auto running = static_cast<int32_t>(running_.size());
  if (running < options_.slots) return true;
  if (running >= options_.slots + options_.guests) return false;
  const int32_t mine = RunningOf(job.request.key);
  if (mine == 0) return true;
  return std::any_of(running_.begin(), running_.end(), [&](const auto& one) {
    return (mine + 1) * kGuestShare <= RunningOf(one.second->request.key);
  });
}

int32_t Core::RunningOf(const std::string& key) const {
  return static_cast<int32_t>(std::count_if(running_.begin(), running_.end(),
                                            [&](const auto& one) { return one.second->request.key == key; }));
}

Timed Core::TimedOf(const Job& job, int32_t cached, bool least) const {
  const auto prefill = static_cast<int32_t>(job.tokens.size()) - std::max(job.computed, cached);
  // Where the model may end it, nobody is turned away for an answer that might have been long.
  const int32_t expected = job.request.ignore_end ? job.limit : least ? 1 : admit_.ExpectedAnswer(job.limit);
  return {job.committed > 0 ? 0 : prefill, std::max(expected - job.committed, 1), job.deadline};
}

bool Core::CannotBeInTime(const Job& job, double now) const {
  if (!Hopeless(TimedOf(job, 0, true), now, costs_, facts_.threads)) return false;
  const Start start = FindStart(job);  // not looked up for everybody at every step
  return Hopeless(TimedOf(job, std::max(start.hosted_length, start.match.length), true), now, costs_,
                  facts_.threads);
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

bool Core::MayBegin(const Job& job) const {
  if (!HasSlot(job) || (job.deadline > 0 && TooManyRun(job))) return false;
  if (running_.empty()) return true;  // alone, it always may
  const Start start = FindStart(job);
  if (start.wait) return false;
  const int32_t cached = start.hosted != nullptr ? 0 : start.match.length;
  if (job.deadline > 0 && !InTime(job, cached)) return false;
  const int32_t left = job.limit - job.committed;
  const int64_t need =
      admit_.Reservation(static_cast<int32_t>(job.tokens.size()) - cached, left, job.usage.preemptions);
  // Everything idle may go, except what this request begins with.
  int64_t freeable = 0;
  for (const auto& [path, idle] : cached_)
    if (path != start.match.path) freeable += tree_.Exclusive(path);
  const bool path_left = FreePath() >= 0 || !cached_.empty();
  return path_left && need <= FreeCells() + freeable - PromisedCells();
}

void Core::Begin() {
  // Of those with deadlines the newest of each key goes first, while somebody has waited too long.
  const double now = clock_();
  const bool pressed = std::any_of(waiting_.begin(), waiting_.end(), [&](const auto& one) {
    return Pressed(one.second->submitted, one.second->deadline, now);
  });
  while (!fair_.empty() && static_cast<int32_t>(running_.size()) < options_.slots + options_.guests) {
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
  Start start = FindStart(*job);
  const uint64_t root = Root(job->request);
  const auto total = static_cast<int32_t>(job->tokens.size());
  const auto taken = cached_.find(start.match.path);
  // An idle path that is wholly a prefix of this prompt goes on as this request's own.
  const bool take_over = start.hosted == nullptr && taken != cached_.end() &&
                         (tree_.length(start.match.path) == start.match.length ||
                          (options_.deterministic && facts_.paths <= options_.slots));
  Hosted hosted;
  if (start.hosted != nullptr) {  // out of the list: making room must not drop it
    const auto at =
        std::find_if(hosted_.begin(), hosted_.end(), [&](const Hosted& h) { return &h == start.hosted; });
    host_bytes_ -= static_cast<int64_t>(at->bytes.size());
    hosted = std::move(*at);
    hosted_.erase(at);
    start.match = {};
  }
  std::optional<Cached> held;
  if (start.match.path >= 0 && taken != cached_.end()) {  // likewise its prefix
    held = taken->second;
    cached_.erase(taken);
  }
  const int held_path = start.match.path;
  const auto give_back = [&] {
    if (held) cached_[held_path] = *held;
  };
  const int64_t need =
      admit_.Reservation(total - start.match.length, job->limit - job->committed, job->usage.preemptions);
  const int64_t at_once = std::min<int64_t>(need, facts_.cells);
  const bool need_path = !take_over && FreePath() < 0;
  if (!MakeRoom(at_once + PromisedCells(), need_path) && !running_.empty()) {
    give_back();
    if (!hosted.bytes.empty()) Host(std::move(hosted));
    return false;
  }
  if (!take_over && FreePath() < 0) {
    give_back();
    return false;
  }
  const std::vector<std::byte>* bytes =
      job->saved ? &*job->saved : (!hosted.bytes.empty() ? &hosted.bytes : nullptr);
  const int32_t bytes_tokens = job->saved ? job->computed : static_cast<int32_t>(hosted.tokens.size());
  const int32_t of_them = job->saved ? job->computed : start.hosted_length;
  job->computed = 0;
  job->grid_safe = 0;
  if (take_over) {
    job->path = held_path;
    if (tree_.length(held_path) > start.match.length) {
      decoder_->Truncate(held_path, start.match.length);
      tree_.Truncate(held_path, start.match.length);
    }
    job->computed = start.match.length;
    job->grid_safe = held->grid_safe;
    held.reset();
  } else {
    job->path = FreePath();
    if (start.match.length > 0) {
      decoder_->Share(start.match.path, job->path, start.match.length);
      tree_.Open(job->path, root, start.match.path, start.match.length);
      job->computed = start.match.length;
      job->grid_safe = options_.deterministic ? start.match.length : 0;
      // A path of which only the beginning is used is no younger for it: its end may be an answer that its
      // client replaced, and its beginning has another holder now.
      if (held && start.match.length == tree_.length(held_path)) held->last_used = clock_();
    } else {
      tree_.Open(job->path, root, -1, 0);
      if (bytes != nullptr && bytes_tokens <= FreeCells() && decoder_->Restore(job->path, *bytes).ok()) {
        if (of_them < bytes_tokens) decoder_->Truncate(job->path, of_them);
        tree_.Append(job->path, std::span<const Token>(job->tokens.data(), static_cast<size_t>(of_them)));
        job->computed = of_them;
        job->grid_safe = job->saved ? 0 : std::min(hosted.grid_safe, of_them);
        ++stats_.restores;
      }
    }
  }
  give_back();
  job->saved.reset();
  job->reserved = std::max<int64_t>(need - (bytes != nullptr ? job->computed : 0), 0);
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

void Core::Finish(const std::shared_ptr<Job>& job, engine::Finish how, Status error) {
  const double now = clock_();
  const bool was_running = running_.erase(job->id) > 0;
  if (!was_running && waiting_.erase(job->id) > 0) fair_.Remove(job->request.key, job->id);
  drafts_.erase(job->id);
  ReleasePath(*job, how != Finish::kError);
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
  job->saved.reset();
  if (job->sink) job->sink(std::move(delta));
}

void Core::Abort(const Status& why) {
  for (auto* jobs : {&running_, &waiting_}) {
    while (!jobs->empty()) {
      const std::shared_ptr<Job> job = jobs->begin()->second;  // Finish takes it out of the map
      Finish(job, Finish::kError, why);
    }
  }
}

}  // namespace headrace::engine
