// Embedder: vectors of texts for many callers. What arrives while a step runs goes together into the next
// ones, sorted by length and packed up to a step's rows.
#pragma once

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/lease.h"
#include "model/encoder.h"

namespace headrace::engine {

struct EmbedOptions {
  bool normalise = true;  // to length 1
  bool cut = false;       // texts longer than the model reads are cut, instead of refused
};

struct Embeddings {
  int32_t width = 0;
  int64_t tokens = 0;
  std::vector<float> values;  // [texts, width]
};

class Embedder {
 public:
  static Result<std::unique_ptr<Embedder>> Start(std::shared_ptr<const model::Model> model,
                                                 const model::EncoderOptions& options = {},
                                                 std::shared_ptr<ComputeLease> lease = nullptr);
  ~Embedder();

  // Vectors of the texts in their order. Thread-safe; blocks. Empty texts are embedded as the model's empty
  // text.
  Result<Embeddings> Embed(const std::vector<std::string>& texts, const EmbedOptions& options = {});
  int32_t width() const { return encoder_->width(); }

 private:
  struct Batch {  // one call
    std::vector<std::vector<model::Token>> texts;
    std::vector<float> values;
    size_t left = 0;
    Status error;
    std::promise<void> done;
  };
  struct Item {
    std::shared_ptr<Batch> batch;
    size_t index;
  };
  Embedder() = default;
  void Run();

  std::shared_ptr<const model::Model> model_;
  std::unique_ptr<model::Encoder> encoder_;
  std::shared_ptr<ComputeLease> lease_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Item> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace headrace::engine
