#include "engine/engine.h"

#include <algorithm>

#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"

namespace headrace::engine {
namespace {

constexpr double kTellSeconds = 0.1;  // between looks that others get at a busy engine's figures

}  // namespace

// ---------------------------------------------------------------- Stream

Stream::~Stream() {
  TakeAll();
  while (ready_ != nullptr) {
    Node* next = ready_->next;
    delete ready_;
    ready_ = next;
  }
}

bool Stream::Push(Delta&& delta) {
  Node* node = new Node{std::move(delta), nullptr};
  Node* before = head_.load(std::memory_order_relaxed);
  do {
    node->next = before;
  } while (!head_.compare_exchange_weak(before, node, std::memory_order_release, std::memory_order_relaxed));
  const bool first = before == nullptr;  // the node itself may be the reader's by now
  pushed_.fetch_add(1, std::memory_order_release);
  pushed_.notify_one();
  return first;
}

bool Stream::TakeAll() {
  Node* list = head_.exchange(nullptr, std::memory_order_acquire);
  Node* ordered = nullptr;
  while (list != nullptr) {
    Node* next = list->next;
    list->next = ordered;
    ordered = list;
    list = next;
  }
  Node** end = &ready_;
  while (*end != nullptr) end = &(*end)->next;
  *end = ordered;
  return ready_ != nullptr;
}

std::optional<Delta> Stream::Next() {
  if (ended_) return std::nullopt;
  while (ready_ == nullptr) {
    const uint32_t seen = pushed_.load(std::memory_order_acquire);
    if (TakeAll()) break;
    pushed_.wait(seen, std::memory_order_acquire);
  }
  Node* node = ready_;
  ready_ = node->next;
  Delta delta = std::move(node->delta);
  delete node;
  ended_ = delta.finish != Finish::kNone;
  return delta;
}

std::optional<Delta> Stream::TryNext() {
  if (ended_ || (ready_ == nullptr && !TakeAll())) return std::nullopt;
  return Next();
}

// ---------------------------------------------------------------- Engine

std::unique_ptr<Engine> Engine::StartWith(std::unique_ptr<model::Decoder> decoder,
                                          std::unique_ptr<Vocabulary> vocabulary, EngineOptions options,
                                          const CostTable& costs, GrammarQueue::Compile compile) {
  std::unique_ptr<Engine> engine(new Engine());
  if (!options.lease) options.lease = std::make_shared<ComputeLease>();
  engine->options_ = std::move(options);
  engine->decoder_ = std::move(decoder);
  engine->vocabulary_ = std::move(vocabulary);
  engine->core_ = std::make_unique<Core>(engine->decoder_.get(), engine->vocabulary_.get(),
                                         engine->options_.core, costs, MonotonicSeconds);
  if (compile)
    engine->grammar_queue_ = std::make_unique<GrammarQueue>(
        std::move(compile), [raw = engine.get()](std::shared_ptr<Job> job) { raw->Enqueue(std::move(job)); },
        engine->options_.grammar);
  engine->compute_ = std::thread([raw = engine.get()] { raw->Run(); });
  return engine;
}

void Engine::Stop() {
  if (!compute_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  news_.store(true);
  wake_.notify_all();
  if (grammar_queue_) grammar_queue_->Stop();
  compute_.join();
}

Engine::~Engine() {
  Stop();
  grammar_queue_.reset();  // waits for what is being compiled
  if (!cost_file_.empty() && core_->stats().steps > 0) {
    const Status kept = ReplaceFile(cost_file_, core_->costs().ToJson(), /*sync=*/false);
    (void)kept;  // else the next engine measures again
  }
}

Status Engine::Check(const Request& request) const {
  if (static_cast<int64_t>(request.stops.size()) > limits::kMaxStops)
    return Status::Limit("there are " + std::to_string(request.stops.size()) + " stop strings; at most " +
                         std::to_string(limits::kMaxStops) + " are taken (kMaxStops)");
  for (const std::string& end : request.turn_ends)
    if (end.empty()) return Status::Invalid("the chat template ends a turn with an empty string");
  for (const std::string& stop : request.stops) {
    if (stop.empty()) return Status::Invalid("a stop string is empty");
    if (static_cast<int64_t>(stop.size()) > limits::kMaxStopBytes)
      return Status::Limit("a stop string has " + std::to_string(stop.size()) + " bytes; at most " +
                           std::to_string(limits::kMaxStopBytes) + " are taken (kMaxStopBytes)");
  }
  if (request.max_tokens < -1) return Status::Invalid("max_tokens must be 0 or more");
  if (std::max(request.top_logprobs, request.prompt_logprobs) > 100)
    return Status::Limit("at most 100 likeliest tokens are given for each; " +
                         std::to_string(std::max(request.top_logprobs, request.prompt_logprobs)) +
                         " were asked");
  if (!(request.timeout >= 0)) return Status::Invalid("the timeout must be 0 (none) or more seconds");
  if (request.adapter < -1 || request.adapter >= decoder_->facts().adapters)
    return Status::Invalid("there is no adapter " + std::to_string(request.adapter));
  if (request.structure.kind != Structure::Kind::kNone && !grammar_queue_)
    return Status::Unsupported("this engine has no grammars");
  if (const std::string problem = request.sampling.Problem(); !problem.empty())
    return Status::Invalid(problem);
  if (request.max_tokens >= 0 && request.sampling.min_tokens > request.max_tokens)
    return Status::Invalid("min_tokens must be at most max_tokens");
  const auto none = [&](const std::vector<Token>& tokens) {
    return std::any_of(tokens.begin(), tokens.end(), [size = decoder_->facts().vocabulary](Token token) {
      return token < 0 || token >= size;
    });
  };
  if (none(request.stop_tokens)) return Status::Invalid("stop_token_ids has one that this model lacks");
  for (const auto& word : request.sampling.bad_words)
    if (none(word)) return Status::Invalid("bad_words has a token that this model lacks");
  return Status::Ok();
}

// The tokens of a request's breakers: few lists of them are in use.
std::shared_ptr<const DryBreakers> Engine::BreakersOf(const std::vector<std::string>& breakers) {
  constexpr size_t kMostLists = 64;
  {
    const std::lock_guard lock(mutex_);
    const auto known = breakers_.find(breakers);
    if (known != breakers_.end()) return known->second;
  }
  auto found = std::make_shared<const DryBreakers>(
      FindDryBreakers(*vocabulary_, decoder_->facts().vocabulary, breakers));
  const std::lock_guard lock(mutex_);
  if (breakers_.size() >= kMostLists) breakers_.clear();
  breakers_[breakers] = found;
  return found;
}

Result<std::shared_ptr<Stream>> Engine::Submit(Request request, std::function<void()> news) {
  HEADRACE_TRY(Check(request));
  if (Dry& dry = request.sampling.dry; dry.on() && !dry.tokens) dry.tokens = BreakersOf(dry.breakers);
  auto stream = std::make_shared<Stream>();
  stream->news_ = std::move(news);
  auto job = std::make_shared<Job>();
  job->id = next_id_.fetch_add(1);
  job->submitted = MonotonicSeconds();
  if (request.timeout > 0) job->deadline = job->submitted + request.timeout;
  job->request = std::move(request);
  stream->job_ = job;
  // A reader that went away without reading on has hung up: its request is cancelled.
  job->sink = [this, weak = std::weak_ptr<Stream>(stream), raw = job.get()](Delta&& delta) {
    if (const auto to = weak.lock()) {
      if (to->Push(std::move(delta)) && to->news_) Tell(to);
    } else {
      raw->cancel.Stop();
    }
  };
  const Structure& structure = job->request.structure;
  if (structure.kind != Structure::Kind::kNone && grammars_) job->grammar = grammars_->Find(structure);
  if (structure.kind != Structure::Kind::kNone && !job->grammar) {
    HEADRACE_TRY(grammar_queue_->Add(std::move(job)));
  } else {
    Enqueue(std::move(job));
  }
  return stream;
}

// News of a step is told when the step is done, all at once: who is woken by the first piece finds the
// others.
void Engine::Tell(const std::shared_ptr<Stream>& stream) {
  if (std::this_thread::get_id() == compute_id_.load()) {
    to_tell_.push_back(stream);
  } else {
    stream->news_();  // of the grammars' queue, or after the end
  }
}

void Engine::TellAll() {
  for (const auto& stream : to_tell_) stream->news_();
  to_tell_.clear();
}

void Engine::Enqueue(std::shared_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      inbox_.push_back(std::move(job));
      news_.store(true, std::memory_order_release);
      wake_.notify_one();
      return;
    }
  }
  Delta delta;
  delta.finish = Finish::kError;
  delta.error = Status::Cancelled("the engine is shutting down");
  job->sink(std::move(delta));
}

CoreStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void Engine::SetWeight(const std::string& key, double weight) {
  const std::lock_guard lock(mutex_);
  weights_[key] = weight;
  news_.store(true, std::memory_order_release);
}

void Engine::Run() {
  compute_id_ = std::this_thread::get_id();
  std::vector<std::shared_ptr<Job>> arrived;
  std::map<std::string, double> weights;
  bool worked = true;
  double told = 0;  // when stats_ was last what it is
  for (;;) {
    const double now = MonotonicSeconds();
    if (worked && now - told > kTellSeconds) {
      const std::lock_guard lock(mutex_);
      stats_ = core_->stats();
      told = now;
    }
    if (!worked || news_.exchange(false, std::memory_order_acquire)) {
      std::unique_lock lock(mutex_);
      stats_ = core_->stats();
      if (!worked) wake_.wait(lock, [&] { return stopping_ || !inbox_.empty(); });
      arrived.swap(inbox_);
      weights.swap(weights_);
      if (stopping_) break;
    }
    for (const auto& [key, weight] : weights) core_->fair().SetWeight(key, weight);
    weights.clear();
    for (auto& job : arrived) core_->Add(std::move(job));
    arrived.clear();
    TellAll();
    {
      const ComputeLease::Hold hold(options_.lease.get());
      worked = core_->Step();
    }
    TellAll();
  }
  for (auto& job : arrived) core_->Add(std::move(job));
  core_->Abort(Status::Cancelled("the engine is shutting down"), !options_.weights_hash.empty());
  TellAll();
  const std::lock_guard lock(mutex_);
  stats_ = core_->stats();
}

}  // namespace headrace::engine
