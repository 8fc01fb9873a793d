#include "engine/embedder.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>

namespace headrace::engine {
namespace {

constexpr size_t kMostLanes = 8;
// Texts of one step attend only to themselves, but their scores are computed as one square: the cost grows
// with the square of the step's tokens. A few hundred are where weights and squares balance.
constexpr size_t kGoodRows = 256;
constexpr size_t kLaneRows = 512;   // tokens of the longest text that a lane takes
constexpr size_t kRoundSteps = 4;   // of each lane, while nobody else wants to compute
constexpr size_t kWorthLanes = 48;  // tokens: below, one context with all threads is sooner done

}  // namespace

Result<std::unique_ptr<Embedder>> Embedder::Start(std::shared_ptr<const model::Model> model,
                                                  const model::EncoderOptions& options,
                                                  std::shared_ptr<ComputeLease> lease) {
  std::unique_ptr<Embedder> embedder(new Embedder());
  HEADRACE_ASSIGN(embedder->whole_, model::NewEncoder(model, options));
  embedder->options_ = embedder->whole_->options();
  const auto threads = static_cast<size_t>(embedder->options_.threads);
  if (!model->on_accelerator()) embedder->lane_count_ = std::clamp<size_t>(threads, 1, kMostLanes);
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

Result<Embeddings> Embedder::Embed(const std::vector<std::string>& texts, const EmbedOptions& options) {
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
  Embeddings result;
  result.width = whole_->width();
  if (texts.empty()) return result;
  const auto shared = std::make_shared<Batch>();  // the thread may still hold it when the last vector is told
  Batch& batch = *shared;
  // A vector's last digits depend on the texts that share its step: the same text is computed once.
  std::map<std::vector<model::Token>, size_t> places;
  std::vector<size_t> place(texts.size());
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
    result.tokens += static_cast<int64_t>(tokens.size());
    const auto [known, is_new] = places.try_emplace(tokens, batch.texts.size());
    place[i] = known->second;
    if (is_new) batch.texts.push_back(std::move(tokens));
  }
  const auto width = static_cast<size_t>(result.width);
  batch.values.resize(batch.texts.size() * width);
  batch.left = batch.texts.size();
  std::future<void> done = batch.done.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Status::Cancelled("the embedder is shutting down");
    for (size_t i = 0; i < places.size(); ++i) waiting_.push_back({shared, i});
  }
  wake_.notify_one();
  done.wait();
  if (!batch.error.ok()) return batch.error;
  if (options.normalise) {
    for (size_t i = 0; i < places.size(); ++i) {
      float* v = batch.values.data() + i * width;
      double square = 0;
      for (size_t j = 0; j < width; ++j) square += double{v[j]} * v[j];
      const auto scale = static_cast<float>(square > 0 ? 1.0 / std::sqrt(square) : 0);
      for (size_t j = 0; j < width; ++j) v[j] *= scale;
    }
  }
  if (places.size() == texts.size()) {
    result.values = std::move(batch.values);
    return result;
  }
  result.values.resize(texts.size() * width);
  for (size_t i = 0; i < texts.size(); ++i)
    std::copy_n(batch.values.begin() + static_cast<ptrdiff_t>(place[i] * width), width,
                result.values.begin() + static_cast<ptrdiff_t>(i * width));
  return result;
}

Status Embedder::OpenLanes() {
  model::EncoderOptions options = options_;
  options.threads = std::max(1, options_.threads / static_cast<int32_t>(lane_count_));
  options.max_rows = static_cast<int32_t>(kLaneRows);
  std::vector<std::unique_ptr<model::Encoder>> lanes;
  while (lanes.size() < lane_count_) {
    HEADRACE_ASSIGN(auto lane, model::NewEncoder(model_, options));
    lanes.push_back(std::move(lane));
  }
  lanes_ = std::move(lanes);
  lane_threads_ = std::make_unique<TaskPool>(static_cast<int>(lane_count_), "hr-embed");
  return Status::Ok();
}

// What is computed next: one step for all threads, or one for each lane. Takes it from waiting_.
std::vector<Embedder::Step> Embedder::NextSteps() {
  const auto size = [](const Item& item) { return item.batch->texts[item.index].size(); };
  const auto most = static_cast<size_t>(options_.max_texts);
  const auto rows = static_cast<size_t>(options_.max_rows);
  size_t tokens = 0;
  for (const Item& item : waiting_) tokens += size(item);
  const bool shared =
      lane_count_ > 1 && waiting_.size() > 1 && tokens >= kWorthLanes && size(waiting_.front()) <= kLaneRows;
  if (!shared) {
    Step step;
    size_t taken = 0, count = 0;
    const size_t room = std::max(std::min(rows, kLaneRows), size(waiting_.front()));
    while (count < waiting_.size() && count < most && taken + size(waiting_[count]) <= room)
      taken += size(waiting_[count++]);
    step.assign(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(count));
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(count));
    return {step};
  }
  // Steps of about kGoodRows, as many for each lane, as even as can be: the oldest texts, longest first, into
  // the step with the least.
  const size_t turn = lane_count_ * kGoodRows;
  const size_t turns = std::min(kRoundSteps, (tokens + turn - 1) / turn);
  const size_t room = std::min(tokens, turns * turn);
  std::vector<size_t> chosen;
  size_t taken = 0;
  for (size_t i = 0; i < waiting_.size() && taken < room; ++i) {
    if (size(waiting_[i]) > kLaneRows) break;
    taken += size(waiting_[i]);
    chosen.push_back(i);
  }
  std::stable_sort(chosen.begin(), chosen.end(),
                   [&](size_t a, size_t b) { return size(waiting_[a]) > size(waiting_[b]); });
  std::vector<Step> steps(turns * lane_count_);
  std::vector<size_t> filled(steps.size(), 0);
  std::vector<bool> gone(waiting_.size(), false);
  for (const size_t i : chosen) {
    const auto least = static_cast<size_t>(std::min_element(filled.begin(), filled.end()) - filled.begin());
    if (filled[least] + size(waiting_[i]) > kLaneRows || steps[least].size() == most) continue;
    filled[least] += size(waiting_[i]);
    steps[least].push_back(waiting_[i]);
    gone[i] = true;
  }
  size_t kept = 0;
  for (size_t i = 0; i < waiting_.size(); ++i)
    if (!gone[i]) waiting_[kept++] = waiting_[i];
  waiting_.resize(kept);
  std::erase_if(steps, [](const Step& step) { return step.empty(); });
  return steps;
}

void Embedder::Compute(model::Encoder* encoder, const Step& step) {
  const auto width = static_cast<size_t>(encoder->width());
  std::vector<std::vector<model::Token>> texts;
  for (const Item& item : step) texts.push_back(item.batch->texts[item.index]);
  const Result<std::vector<float>> vectors = encoder->Encode(texts);
  for (size_t i = 0; i < step.size(); ++i) {
    Batch& batch = *step[i].batch;
    if (vectors.ok())
      std::copy_n(vectors->begin() + static_cast<ptrdiff_t>(i * width), width,
                  batch.values.begin() + static_cast<ptrdiff_t>(step[i].index * width));
    const std::lock_guard lock(mutex_);
    if (!vectors.ok() && batch.error.ok()) batch.error = vectors.status();
    if (--batch.left == 0) batch.done.set_value();
  }
}

void Embedder::Run() {
  for (;;) {
    std::vector<Step> steps;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      steps = NextSteps();
    }
    if (steps.size() > 1 && lanes_.empty() && !OpenLanes().ok()) lane_count_ = 1;  // no memory for them
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
}

}  // namespace headrace::engine
