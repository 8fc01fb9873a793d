#include <llama.h>

#include <algorithm>
#include <thread>

#include "model/encoder.h"
#include "model/header.h"
#include "model/thread_pool.h"

namespace headrace::model {
namespace {

class LlamaEncoder : public Encoder {
 public:
  ~LlamaEncoder() override {
    if (context_ != nullptr) llama_free(context_);
    if (batch_.token != nullptr) llama_batch_free(batch_);
  }

  Status Open(std::shared_ptr<const Model> model, const EncoderOptions& options) {
    model_ = std::move(model);
    options_ = options;
    const Facts& about = model_->facts();
    if (about.memory == Memory::kRecurrent || about.memory == Memory::kHybrid)
      return Status::Unsupported(about.name + " is a " + std::string(MemoryName(about.memory)) +
                                 " model: it cannot embed texts here");
    if (about.ranks) {
      HEADRACE_ASSIGN(const bool scores, HasRankHead(model_->path()));
      if (!scores)
        return Status::Unsupported(about.name +
                                   " is said to rank, and has no weights that make a score (cls.output)");
    }
    options_.threads =
        options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
    if (options_.max_rows == 0) options_.max_rows = std::clamp(about.trained_context, 1024, 8192);
    max_tokens_ = std::min(about.trained_context, options_.max_rows);
    llama_context_params params = llama_context_default_params();
    // An encoder's batch above n_ubatch aborts the process in ggml: all three are one number.
    params.n_ctx = params.n_batch = params.n_ubatch = static_cast<uint32_t>(options_.max_rows);
    params.n_seq_max = static_cast<uint32_t>(options_.max_texts);
    params.kv_unified = true;
    params.embeddings = true;
    params.no_perf = true;
    params.pooling_type =
        about.task() == Task::kWrite ? LLAMA_POOLING_TYPE_MEAN : LLAMA_POOLING_TYPE_UNSPECIFIED;
    params.n_threads = params.n_threads_batch = options_.threads;
    try {
      context_ = llama_init_from_model(model_->handle(), params);
    } catch (const std::exception& error) {
      return Status::Invalid("cannot make an embedding context for " + about.name + ": " + error.what());
    }
    if (context_ == nullptr)
      return Status::Limit("there is no memory for an embedding context of " + about.name);
    if (llama_pooling_type(context_) == LLAMA_POOLING_TYPE_NONE)
      return Status::Unsupported(about.name +
                                 " does not say how its token vectors become one vector of a text");
    batch_ = llama_batch_init(options_.max_rows, 0, 1);
    pool_ = NewThreadPool(options_.threads);
    llama_attach_threadpool(context_, pool_.get(), pool_.get());
    return Status::Ok();
  }

  int32_t width() const override {
    return model_->facts().ranks ? static_cast<int32_t>(llama_model_n_cls_out(model_->handle()))
                                 : llama_model_n_embd_out(model_->handle());
  }
  int32_t max_tokens() const override { return max_tokens_; }
  const EncoderOptions& options() const override { return options_; }

  Result<std::vector<float>> Encode(std::span<const std::vector<Token>> texts) override {
    HEADRACE_CHECK(static_cast<int32_t>(texts.size()) <= options_.max_texts);
    batch_.n_tokens = 0;
    for (size_t text = 0; text < texts.size(); ++text) {
      HEADRACE_CHECK(!texts[text].empty());
      for (size_t i = 0; i < texts[text].size(); ++i) {
        HEADRACE_CHECK(batch_.n_tokens < options_.max_rows);
        const int32_t at = batch_.n_tokens++;
        batch_.token[at] = texts[text][i];
        batch_.pos[at] = static_cast<int32_t>(i);
        batch_.n_seq_id[at] = 1;
        batch_.seq_id[at][0] = static_cast<int32_t>(text);
        batch_.logits[at] = 1;
      }
    }
    if (llama_memory_t memory = llama_get_memory(context_); memory != nullptr)
      llama_memory_clear(memory, false);
    int32_t code = -1;
    try {
      code = model_->facts().memory == Memory::kEncoder ? llama_encode(context_, batch_)
                                                        : llama_decode(context_, batch_);
    } catch (const std::exception& error) {
      return Status::Io(std::string("an embedding step failed inside llama.cpp: ") + error.what());
    }
    if (code != 0)
      return Status::Io("an embedding step failed inside llama.cpp (code " + std::to_string(code) + ")");
    const auto count = static_cast<size_t>(width());
    std::vector<float> result(texts.size() * count);
    for (size_t text = 0; text < texts.size(); ++text) {
      const float* vector = llama_get_embeddings_seq(context_, static_cast<int32_t>(text));
      if (vector == nullptr) return Status::Io("the model gave no vector for a text");
      std::copy(vector, vector + count, result.begin() + static_cast<ptrdiff_t>(text * count));
    }
    return result;
  }

 private:
  std::shared_ptr<const Model> model_;
  EncoderOptions options_;
  llama_context* context_ = nullptr;
  ThreadPool pool_;  // freed after the context, which uses it
  llama_batch batch_{};
  int32_t max_tokens_ = 0;
};

}  // namespace

Result<std::unique_ptr<Encoder>> NewEncoder(std::shared_ptr<const Model> model,
                                            const EncoderOptions& options) {
  auto encoder = std::make_unique<LlamaEncoder>();
  HEADRACE_TRY(encoder->Open(std::move(model), options));
  return std::unique_ptr<Encoder>(std::move(encoder));
}

}  // namespace headrace::model
