// The real Decoder. In a model with a sliding window, llama.cpp takes over cells that have left the window
// and are held by one sequence only, and whoever shares them later attends to nothing: so each path is held
// by two sequences, ids 2p and 2p + 1, and every row belongs to both (serving.md, 3).
#include <llama.h>

#include <algorithm>
#include <thread>

#include "model/adapter_stack.h"
#include "model/model.h"
#include "model/thread_pool.h"

namespace headrace::model {
namespace {

constexpr int32_t kMaxSequences = 256;  // LLAMA_MAX_SEQ
constexpr int kKeepStack = 256;         // steps

class LlamaDecoder : public Decoder {
 public:
  ~LlamaDecoder() override {
    if (context_ != nullptr) llama_free(context_);
    llama_batch_free(batch_);
  }

  Status Open(std::shared_ptr<const Model> model, const DecoderOptions& options) {
    model_ = std::move(model);
    const Facts& about = model_->facts();
    if (about.task() == Task::kRank)
      return Status::Invalid(about.name +
                             " is a reranker: it does not generate text; `headrace serve` ranks by it");
    if (about.task() == Task::kEmbed)
      return Status::Invalid(about.name + " is an embedding model: it does not generate text; use embed");
    const bool state = about.memory == Memory::kRecurrent || about.memory == Memory::kHybrid;
    facts_.window = options.unified ? about.window : 0;
    copies_ = facts_.window > 0 ? 2 : 1;
    facts_.vocabulary = about.vocabulary;
    facts_.can_truncate = !state;
    facts_.unified = options.unified;
    facts_.threads =
        options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
    facts_.paths = std::clamp(options.paths, 1, kMaxSequences / copies_);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(options.cells > 0 ? options.cells
                                                           : std::min(about.trained_context, kUsualCells));
    params.n_batch = params.n_ubatch = static_cast<uint32_t>(options.max_rows);
    params.n_seq_max = static_cast<uint32_t>(facts_.paths * copies_);
    params.n_ctx =
        std::max(params.n_ctx, params.n_seq_max);  // llama.cpp aborts where a step cannot reach every path
    params.n_batch = params.n_ubatch = std::max(params.n_batch, params.n_seq_max);
    params.n_threads = params.n_threads_batch = facts_.threads;
    params.kv_unified = options.unified;
    params.swa_full = true;
    params.no_perf = true;
    params.flash_attn_type =
        options.flash_attention ? LLAMA_FLASH_ATTN_TYPE_AUTO : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    adapters_ = model_->adapters();
    facts_.adapters = static_cast<int32_t>(adapters_.size());
    if (options.unified) stack_ = AdapterStack::Make(*model_, adapters_);
    facts_.mixes_adapters = stack_ != nullptr;
    if (stack_) {
      params.cb_eval = [](ggml_tensor* node, bool ask, void* self) { return Self(self)->OnNode(node, ask); };
      params.cb_eval_user_data = this;
    }
    try {
      context_ = llama_init_from_model(model_->handle(), params);
    } catch (const std::exception& error) {
      return Status::Invalid("cannot make a context for " + about.name + ": " + error.what());
    }
    if (context_ == nullptr)
      return Status::Limit("there is no memory for a context of " + std::to_string(params.n_ctx) +
                           " tokens of " + about.name + " (" + std::to_string(about.kv_bytes_per_token) +
                           " bytes a token); ask for a shorter one");
    facts_.cells = static_cast<int32_t>(llama_n_ctx(context_));
    facts_.context =
        std::min(static_cast<int32_t>(llama_n_ctx_seq(context_)), std::max(about.trained_context, 1));
    facts_.max_rows = static_cast<int32_t>(llama_n_ubatch(context_));
    memory_ = llama_get_memory(context_);
    batch_ = llama_batch_init(facts_.max_rows, 0, copies_);
    one_ = NewThreadPool(1);
    all_ = NewThreadPool(facts_.threads);
    llama_attach_threadpool(context_, all_.get(), all_.get());
    return Status::Ok();
  }

  const DecoderFacts& facts() const override { return facts_; }

  Status Decode(std::span<const Row> rows, int threads) override {
    HEADRACE_CHECK(!rows.empty() && static_cast<int32_t>(rows.size()) <= facts_.max_rows);
    batch_.n_tokens = static_cast<int32_t>(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      HEADRACE_CHECK(rows[i].adapter >= -1 && rows[i].adapter < facts_.adapters);
      batch_.token[i] = rows[i].token;
      batch_.pos[i] = rows[i].position;
      batch_.n_seq_id[i] = copies_;
      for (int c = 0; c < copies_; ++c) batch_.seq_id[i][c] = rows[i].path * copies_ + c;
      batch_.logits[i] = rows[i].output ? 1 : 0;
    }
    const int count = std::clamp(threads, 1, facts_.threads);
    if (count != threads_) {
      ggml_threadpool* pool = count == 1 ? one_.get() : all_.get();
      llama_attach_threadpool(context_, pool, pool);
      llama_set_n_threads(context_, count, count);
      threads_ = count;
    }
    HEADRACE_TRY(UseAdapters(rows));
    int32_t code = -1;
    try {
      code = llama_decode(context_, batch_);
      if (code == 0) llama_synchronize(context_);
    } catch (const std::exception& error) {
      return Status::Io(std::string("a step failed inside llama.cpp: ") + error.what());
    }
    if (code == 1) return Status::Limit("there are too few free cells in the cache for this step");
    if (code != 0) return Status::Io("a step failed inside llama.cpp (code " + std::to_string(code) + ")");
    if (lost_)
      return Status::Unsupported(
          "an adapter's product has a shape that rows cannot be told apart in; load one "
          "adapter at a time for this model");
    return Status::Ok();
  }

  std::span<const float> Logits(int index) override {
    const float* row = llama_get_logits_ith(context_, index);
    HEADRACE_CHECK(row != nullptr);
    return {row, static_cast<size_t>(facts_.vocabulary)};
  }

  void Share(int from, int to, int32_t length) override {
    if (!facts_.unified) {  // a copy of the whole path, then a cut: llama.cpp copies streams whole
      llama_memory_seq_cp(memory_, from, to, -1, -1);
      llama_memory_seq_rm(memory_, to, length, -1);
      return;
    }
    for (int c = 0; c < copies_; ++c)
      llama_memory_seq_cp(memory_, from * copies_, to * copies_ + c, 0, length);
  }

  void Truncate(int path, int32_t length) override {
    for (int c = 0; c < copies_; ++c)
      HEADRACE_CHECK(llama_memory_seq_rm(memory_, path * copies_ + c, length == 0 ? -1 : length, -1));
  }

  int32_t FirstPosition(int path) override { return llama_memory_seq_pos_min(memory_, path * copies_); }

  Result<std::vector<std::byte>> Save(int path) override {
    std::vector<std::byte> bytes(llama_state_seq_get_size(context_, path * copies_));
    const size_t written = llama_state_seq_get_data(context_, reinterpret_cast<uint8_t*>(bytes.data()),
                                                    bytes.size(), path * copies_);
    if (written == 0) return Status::Io("a sequence's state could not be saved");
    bytes.resize(written);
    return bytes;
  }

  Status Restore(int path, std::span<const std::byte> bytes) override {
    const size_t read = llama_state_seq_set_data(context_, reinterpret_cast<const uint8_t*>(bytes.data()),
                                                 bytes.size(), path * copies_);
    if (read == 0) {
      Truncate(path, 0);
      return Status::Limit("a saved sequence did not fit back into the cache");
    }
    for (int c = 1; c < copies_; ++c)
      llama_memory_seq_cp(memory_, path * copies_, path * copies_ + c, -1, -1);
    return Status::Ok();
  }

 private:
  static LlamaDecoder* Self(void* self) { return static_cast<LlamaDecoder*>(self); }

  bool OnNode(ggml_tensor* node, bool ask) {
    if (ask) return stacked_ && stack_->StopsAt(node);
    if (!stack_->Mask(node)) lost_ = true;
    return true;
  }

  // Setting adapters makes llama.cpp plan anew, some 3 ms: a stack stays set until nobody has asked for one
  // for a while.
  Status UseAdapters(std::span<const Row> rows) {
    if (!stack_) return UseOne(rows.front().adapter);
    lost_ = false;
    unused_ = stack_->Begin(rows) ? 0 : unused_ + 1;
    const bool want = unused_ == 0 || (stacked_ && unused_ < kKeepStack);
    if (want == stacked_) return Status::Ok();
    llama_adapter_lora* handle = stack_->handle();
    float scale = 1;
    if (llama_set_adapters_lora(context_, want ? &handle : nullptr, want ? 1 : 0, want ? &scale : nullptr) !=
        0)
      return Status::Invalid("the adapters cannot be used");
    stacked_ = want;
    return Status::Ok();
  }

  Status UseOne(int adapter) {
    if (adapter == adapter_) return Status::Ok();
    if (adapter < 0) {
      llama_set_adapters_lora(context_, nullptr, 0, nullptr);
    } else {
      const Model::Adapter& wanted = adapters_[static_cast<size_t>(adapter)];
      auto* handle = static_cast<llama_adapter_lora*>(wanted.handle);
      float scale = wanted.scale;
      if (llama_set_adapters_lora(context_, &handle, 1, &scale) != 0)
        return Status::Invalid("the adapter " + wanted.path + " cannot be used");
    }
    adapter_ = adapter;
    return Status::Ok();
  }

  std::shared_ptr<const Model> model_;
  DecoderFacts facts_;
  llama_context* context_ = nullptr;
  llama_memory_t memory_ = nullptr;
  ThreadPool one_, all_;  // freed after the context, which uses them
  llama_batch batch_{};
  int copies_ = 1;
  int threads_ = 0;
  int adapter_ = -1;                      // without a stack: the one that is set
  std::vector<Model::Adapter> adapters_;  // as they were when the context was made
  std::unique_ptr<AdapterStack> stack_;   // of all of them
  bool stacked_ = false;                  // it is set
  bool lost_ = false;                     // a node of this step could not be masked
  int unused_ = 0;                        // steps since a row had an adapter
};

}  // namespace

Result<std::unique_ptr<Decoder>> NewDecoder(std::shared_ptr<const Model> model,
                                            const DecoderOptions& options) {
  auto decoder = std::make_unique<LlamaDecoder>();
  HEADRACE_TRY(decoder->Open(std::move(model), options));
  return std::unique_ptr<Decoder>(std::move(decoder));
}

}  // namespace headrace::model
