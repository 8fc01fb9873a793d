#include "engine/embedder.h"

#include <algorithm>
#include <cmath>

namespace headrace::engine {

Result<std::unique_ptr<Embedder>> Embedder::Start(std::shared_ptr<const model::Model> model,
                                                  const model::EncoderOptions& options,
                                                  std::shared_ptr<ComputeLease> lease) {
  std::unique_ptr<Embedder> embedder(new Embedder());
  HEADRACE_ASSIGN(embedder->encoder_, model::NewEncoder(model, options));
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
  Embeddings result;
  result.width = encoder_->width();
  if (texts.empty()) return result;
  const auto shared = std::make_shared<Batch>();  // the thread may still hold it when the last vector is told
  Batch& batch = *shared;
  const auto most = static_cast<size_t>(encoder_->max_tokens());
  for (size_t i = 0; i < texts.size(); ++i) {
    HEADRACE_ASSIGN(std::vector<model::Token> tokens, model_->Tokenize(texts[i], true, false));
    if (tokens.empty())
      return Status::Invalid("text " + std::to_string(i) +
                             " is empty, and this model has no token for an empty text");
    if (tokens.size() > most) {
      if (!options.cut)
        return Status::Limit("text " + std::to_string(i) + " has " + std::to_string(tokens.size()) +
                             " tokens; " + model_->facts().name + " reads at most " + std::to_string(most) +
                             "; cut it, or ask for truncation");
      const model::Token last = tokens.back();  // [SEP] stays at the end
      tokens.resize(most);
      if (model_->facts().memory == model::Memory::kEncoder) tokens.back() = last;
    }
    result.tokens += static_cast<int64_t>(tokens.size());
    batch.texts.push_back(std::move(tokens));
  }
  const auto width = static_cast<size_t>(result.width);
  batch.values.resize(texts.size() * width);
  batch.left = texts.size();
  std::future<void> done = batch.done.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Status::Cancelled("the embedder is shutting down");
    for (size_t i = 0; i < batch.texts.size(); ++i) waiting_.push_back({shared, i});
  }
  wake_.notify_one();
  done.wait();
  if (!batch.error.ok()) return batch.error;
  if (options.normalise) {
    for (size_t i = 0; i < texts.size(); ++i) {
      float* v = batch.values.data() + i * width;
      double square = 0;
      for (size_t j = 0; j < width; ++j) square += double{v[j]} * v[j];
      const auto scale = static_cast<float>(square > 0 ? 1.0 / std::sqrt(square) : 0);
      for (size_t j = 0; j < width; ++j) v[j] *= scale;
    }
  }
  result.values = std::move(batch.values);
  return result;
}

void Embedder::Run() {
  const auto rows = static_cast<size_t>(encoder_->options().max_rows);
  const auto most = static_cast<size_t>(encoder_->options().max_texts);
  const auto width = static_cast<size_t>(encoder_->width());
  // Texts of one step attend only to themselves, but their scores are computed as one square: cost grows with
  // the square of the step's tokens. Steps of a few hundred tokens are where weights and squares balance.
  constexpr size_t kGoodRows = 512;
  for (;;) {
    std::vector<Item> step;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      // The oldest text is in; then those nearest to its length, longest first.
      const auto size = [](const Item& item) { return item.batch->texts[item.index].size(); };
      const Item oldest = waiting_.front();
      std::vector<size_t> order;
      for (size_t i = 1; i < waiting_.size(); ++i) order.push_back(i);
      const auto target = static_cast<ptrdiff_t>(size(oldest));
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return std::abs(static_cast<ptrdiff_t>(size(waiting_[a])) - target) <
               std::abs(static_cast<ptrdiff_t>(size(waiting_[b])) - target);
      });
      std::vector<bool> taken(waiting_.size(), false);
      size_t tokens = size(oldest);
      taken[0] = true;
      step.push_back(oldest);
      const size_t room = std::max(std::min(rows, kGoodRows), tokens);
      for (const size_t i : order) {
        if (step.size() == most) break;
        if (tokens + size(waiting_[i]) > room) continue;
        tokens += size(waiting_[i]);
        taken[i] = true;
        step.push_back(waiting_[i]);
      }
      size_t kept = 0;
      for (size_t i = 0; i < waiting_.size(); ++i)
        if (!taken[i]) waiting_[kept++] = waiting_[i];
      waiting_.resize(kept);
    }
    std::vector<std::vector<model::Token>> texts;
    for (const Item& item : step) texts.push_back(item.batch->texts[item.index]);
    Result<std::vector<float>> vectors = [&] {
      const ComputeLease::Hold hold(lease_.get());
      return encoder_->Encode(texts);
    }();
    for (size_t i = 0; i < step.size(); ++i) {
      Batch& batch = *step[i].batch;
      if (vectors.ok()) {
        std::copy_n(vectors->begin() + static_cast<ptrdiff_t>(i * width), width,
                    batch.values.begin() + static_cast<ptrdiff_t>(step[i].index * width));
      } else if (batch.error.ok()) {
        batch.error = vectors.status();
      }
      if (--batch.left == 0) batch.done.set_value();
    }
  }
}

}  // namespace headrace::engine
