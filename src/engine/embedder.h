// Embedder: vectors of texts for many callers. What arrives while a step runs goes together into the next.
//
// Many texts are shared out among lanes, each a context with threads of its own: they never wait for each
// other inside a step, as the threads of one context do after every operation. A single text gets all
// threads.
#pragma once

#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/task_pool.h"
#include "engine/lease.h"
#include "model/encoder.h"

namespace headrace::engine {

struct EmbedOptions {
  bool normalise = true;  // to length 1
  int32_t cut = 0;        // longer texts are cut to so many tokens; -1: to what the model reads; 0: refused
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
  // The same of texts that are tokens already.
  Result<Embeddings> EmbedTokens(std::vector<std::vector<model::Token>> texts,
                                 const EmbedOptions& options = {});
  int32_t width() const { return whole_->width(); }

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
  using Step = std::vector<Item>;
  Embedder() = default;
  void Run();
  std::vector<Step> NextSteps();
  void Compute(model::Encoder* encoder, const Step& step);
  Status OpenLanes();

  std::shared_ptr<const model::Model> model_;
  model::EncoderOptions options_;
  std::unique_ptr<model::Encoder> whole_;               // all threads
  std::vector<std::unique_ptr<model::Encoder>> lanes_;  // opened when there are texts for them
  std::unique_ptr<TaskPool> lane_threads_;
  size_t lane_count_ = 1;
  std::shared_ptr<ComputeLease> lease_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Item> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace headrace::engine
