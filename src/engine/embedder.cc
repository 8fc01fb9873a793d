#include "engine/embedder.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <utility>

#include "base/clock.h"

namespace headrace::engine {
namespace {

void Normalise(size_t width, std::vector<float>* vectors) {
  for (size_t at = 0; at < vectors->size(); at += width) {
    float* v = vectors->data() + at;
    double square = 0;
    for (size_t j = 0; j < width; ++j) square += double{v[j]} * v[j];
    const auto scale = static_cast<float>(square > 0 ? 1.0 / std::sqrt(square) : 0);
    for (size_t j = 0; j < width; ++j) v[j] *= scale;
  }
}

}  // namespace

// One call. What changes is guarded by the embedder's mutex; `values` is written by who computes, each place
// once.
class EmbedCall {
 public:
  EmbedOptions options;
  std::vector<std::vector<model::Token>> texts;  // each once
  std::vector<size_t> place;                     // of each text that was asked, in `texts`
  int64_t tokens = 0;                            // of all that were asked
  std::vector<float> values;                     // (texts, width)
  size_t left = 0;                               // texts without a vector
  Status error;
  double submitted = 0, began = 0, deadline = 0;  // monotonic seconds; 0: not yet, none
  Embedder::Done done;                            // null once it was called, or is no more wanted
  std::atomic<bool> ended{false};

  Embeddings Take(int32_t width) {
    const auto wide = static_cast<size_t>(width);
    Embeddings result;
    result.width = width;
    result.tokens = tokens;
    result.queue_seconds = began - submitted;
    result.compute_seconds = MonotonicSeconds() - began;
    if (options.normalise) Normalise(wide, &values);
    if (place.size() == texts.size()) {
      result.values = std::move(values);
      return result;
    }
    result.values.resize(place.size() * wide);
    for (size_t i = 0; i < place.size(); ++i)
      std::copy_n(values.begin() + static_cast<ptrdiff_t>(place[i] * wide), wide,
                  result.values.begin() + static_cast<ptrdiff_t>(i * wide));
    return result;
  }
};

Result<std::unique_ptr<Embedder>> Embedder::Start(std::shared_ptr<const model::Model> model,
                                                  const model::EncoderOptions& options,
                                                  std::shared_ptr<ComputeLease> lease) {
  std::unique_ptr<Embedder> embedder(new Embedder());
  HEADRACE_ASSIGN(embedder->whole_, model::NewEncoder(model, options));
  embedder->options_ = embedder->whole_->options();
  const auto threads = static_cast<size_t>(embedder->options_.threads);
  const MachineProfile machine = model->on_accelerator() ? MachineProfile::Gpu() : MachineProfile::Cpu();
  embedder->lane_rows_ = machine.lane_rows;
  if (!model->on_accelerator())
    embedder->lane_count_ = std::clamp<size_t>(threads, 1, static_cast<size_t>(machine.most_lanes));
  embedder->queue_ = EmbedQueue({.lanes = embedder->lane_count_,
                                 .max_rows = static_cast<size_t>(embedder->options_.max_rows),
                                 .max_texts = static_cast<size_t>(embedder->options_.max_texts)},
                                machine);
  embedder->model_ = std::move(model);
  embedder->lease_ = lease ? std::move(lease) : std::make_shared<ComputeLease>();
  embedder->thread_ = std::thread([raw = embedder.get()] { raw->Run(); });
  return embedder;
}

Embedder::~Embedder() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Embedder::SetWeight(const std::string& key, double weight) {
  const std::lock_guard lock(mutex_);
  queue_.SetWeight(key, weight);
}

size_t Embedder::waiting() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

// ---------------------------------------------------------------- calls

Result<std::shared_ptr<Embedder::Call>> Embedder::Submit(std::vector<std::vector<model::Token>> texts,
                                                         const EmbedOptions& options, Done done) {
  const auto call = std::make_shared<Call>();
  call->options = options;
  call->done = std::move(done);
  call->submitted = MonotonicSeconds();
  if (options.timeout > 0) call->deadline = call->submitted + options.timeout;
  // A vector's last digits depend on the texts that share its step: the same text is computed once.
  std::map<std::vector<model::Token>, size_t> places;
  const auto most = static_cast<size_t>(whole_->max_tokens());
  for (size_t i = 0; i < texts.size(); ++i) {
    std::vector<model::Token>& tokens = texts[i];
    if (tokens.empty())
      return Status::Invalid("text " + std::to_string(i) +
                             " is empty, and this model has no token for an empty text");
    const size_t keep = options.cut > 0 ? std::min(most, static_cast<size_t>(options.cut)) : most;
    if (tokens.size() > keep) {
      if (options.cut == 0)
        return Status::Limit("text " + std::to_string(i) + " has " + std::to_string(tokens.size()) +
                             " tokens; " + model_->facts().name + " reads at most " + std::to_string(most) +
                             "; cut it, or ask for truncation");
      const model::Token last = tokens.back();  // [SEP] stays at the end
      tokens.resize(keep);
      if (model_->facts().memory == model::Memory::kEncoder) tokens.back() = last;
    }
    call->tokens += static_cast<int64_t>(tokens.size());
    const auto [known, is_new] = places.try_emplace(tokens, call->texts.size());
    call->place.push_back(known->second);
    if (is_new) call->texts.push_back(std::move(tokens));
  }
  call->left = call->texts.size();
  call->values.resize(call->left * static_cast<size_t>(width()));
  if (call->left == 0) {
    call->began = call->submitted;
    End(call, Status::Ok());
    return call;
  }
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Status::Cancelled("the embedder is shutting down");
    any_deadline_ = any_deadline_ || call->deadline > 0;
    for (size_t i = 0; i < call->texts.size(); ++i)
      queue_.Push({call, i, call->texts[i].size(), options.key});
  }
  wake_.notify_one();
  return call;
}

void Embedder::Cancel(const std::shared_ptr<Call>& call) {
  Done done;  // let go of outside the lock: whoever it holds may be the last to hold us
  const std::lock_guard lock(mutex_);
  done.swap(call->done);
  call->ended = true;
  any_ended_ = true;
}

// Tells its caller, once.
void Embedder::End(const std::shared_ptr<Call>& call, const Status& status) {
  Done done;
  {
    const std::lock_guard lock(mutex_);
    done.swap(call->done);
    call->ended = true;
    any_ended_ = true;
  }
  if (!done) return;
  if (status.ok()) {
    done(call->Take(width()));
  } else {
    done(status);
  }
}

Result<Embeddings> Embedder::Embed(const std::vector<std::string>& texts, const EmbedOptions& options) {
  if (model_->facts().ranks)
    return Status::Unsupported(model_->facts().name +
                               " is a reranker: it scores a query and a document, and makes no vectors");
  std::vector<std::vector<model::Token>> all;
  all.reserve(texts.size());
  for (const std::string& text : texts) {
    HEADRACE_ASSIGN(std::vector<model::Token> tokens, model_->Tokenize(text, true, false));
    all.push_back(std::move(tokens));
  }
  return EmbedTokens(std::move(all), options);
}

Result<Embeddings> Embedder::EmbedTokens(std::vector<std::vector<model::Token>> texts,
                                         const EmbedOptions& options) {
  const auto told = std::make_shared<std::promise<Result<Embeddings>>>();
  auto result = told->get_future();
  HEADRACE_TRY(Submit(std::move(texts), options, [told](Result<Embeddings> made) {
                 told->set_value(std::move(made));
               }).status());
  return result.get();
}

// ---------------------------------------------------------------- the thread

Status Embedder::OpenLanes() {
  model::EncoderOptions options = options_;
  options.threads = std::max(1, options_.threads / static_cast<int32_t>(lane_count_));
  options.max_rows = lane_rows_;
  std::vector<std::unique_ptr<model::Encoder>> lanes;
  while (lanes.size() < lane_count_) {
    HEADRACE_ASSIGN(auto lane, model::NewEncoder(model_, options));
    lanes.push_back(std::move(lane));
  }
  lanes_ = std::move(lanes);
  lane_threads_ = std::make_unique<TaskPool>(static_cast<int>(lane_count_), "hr-embed");
  return Status::Ok();
}

void Embedder::Compute(model::Encoder* encoder, const EmbedStep& step) {
  const auto width = static_cast<size_t>(encoder->width());
  EmbedStep wanted;  // of calls that were not cancelled meanwhile
  std::vector<std::vector<model::Token>> texts;
  for (const EmbedText& item : step) {
    if (item.call->ended) continue;
    wanted.push_back(item);
    texts.push_back(item.call->texts[item.index]);
  }
  if (wanted.empty()) return;
  const Result<std::vector<float>> vectors = encoder->Encode(texts);
  std::vector<std::shared_ptr<Call>> whole;
  for (size_t i = 0; i < wanted.size(); ++i) {
    Call& call = *wanted[i].call;
    if (vectors.ok())
      std::copy_n(vectors->begin() + static_cast<ptrdiff_t>(i * width), width,
                  call.values.begin() + static_cast<ptrdiff_t>(wanted[i].index * width));
    const std::lock_guard lock(mutex_);
    if (!vectors.ok() && call.error.ok()) call.error = vectors.status();
    if (--call.left == 0) whole.push_back(wanted[i].call);
  }
  for (const auto& call : whole) End(call, call->error);
}

void Embedder::ComputeAll(const std::vector<EmbedStep>& steps) {
  if (steps.size() > 1 && lanes_.empty() && !OpenLanes().ok()) {  // no memory for them
    const std::lock_guard lock(mutex_);
    lane_count_ = 1;
    queue_.UseOneLane();
  }
  for (std::atomic<size_t> next = 0; next < steps.size();) {
    const ComputeLease::Hold hold(lease_.get());
    if (steps.size() == 1 || lanes_.empty()) {
      Compute(whole_.get(), steps[next++]);
      continue;
    }
    std::vector<std::future<void>> lanes;
    for (const auto& lane : lanes_)
      lanes.push_back(lane_threads_->Submit([&] {
        do {
          const size_t mine = next++;
          if (mine < steps.size()) Compute(lane.get(), steps[mine]);
        } while (next < steps.size() && !lease_->wanted());
      }));
    for (auto& lane : lanes) lane.get();
  }
}

// Calls whose time is over, as far as texts of them wait.
void Embedder::EndLate() {
  std::vector<std::shared_ptr<Call>> late;
  {
    const std::lock_guard lock(mutex_);
    if (!any_deadline_) return;
    any_deadline_ = false;
    const double now = MonotonicSeconds();
    queue_.ForEach([&](const EmbedText& text) {
      if (text.call->deadline == 0 || text.call->ended) return;
      any_deadline_ = true;
      if (text.call->deadline <= now && (late.empty() || late.back() != text.call)) late.push_back(text.call);
    });
  }
  for (const auto& call : late)
    End(call, Status::Timeout("the vectors could not be whole before the deadline"));
}

void Embedder::EndAll(const Status& why) {
  std::vector<std::shared_ptr<Call>> waiting;
  {
    const std::lock_guard lock(mutex_);
    queue_.ForEach([&](const EmbedText& text) { waiting.push_back(text.call); });
  }
  for (const auto& call : waiting) End(call, why);
}

void Embedder::Run() {
  for (;;) {
    EndLate();
    std::vector<EmbedStep> steps;
    {
      std::unique_lock lock(mutex_);
      if (std::exchange(any_ended_, false))
        queue_.RemoveIf([](const EmbedText& text) { return text.call->ended.load(); });
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) break;
      steps = queue_.NextSteps();
      const double now = MonotonicSeconds();
      for (const EmbedStep& step : steps)
        for (const EmbedText& text : step)
          if (text.call->began == 0) text.call->began = now;
    }
    ComputeAll(steps);
  }
  EndAll(Status::Cancelled("the embedder is shutting down"));
}

}  // namespace headrace::engine
